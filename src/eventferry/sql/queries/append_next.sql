-- {columns}, {values}: those given; then entity_id and the version that it must be at.
-- No row: it is at another one, or the id is there already.
-- Who passes the check has seen the version before, so its position was drawn before ours:
-- version order is position order. Of two that pass at once, the unique index lets one in.
INSERT INTO {stream} ({columns})
SELECT {values}
  FROM (SELECT coalesce(max(version), 0) AS version FROM {stream} WHERE entity_id = %s) AS entity
 WHERE entity.version = %s
ON CONFLICT DO NOTHING
