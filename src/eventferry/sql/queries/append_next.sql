-- {columns}, {values}: those given; then entity_id and the version that it must be at.
-- No row: it is at another one, the id is there already, or versions are not given out here.
-- Who passes the check has seen the version before, so its position was drawn before ours:
-- version order is position order. Of two that pass at once, the unique index lets one in.
INSERT INTO {stream} ({columns})
SELECT {values}
  FROM (SELECT coalesce(max(version), 0) AS version FROM {stream} WHERE entity_id = %s) AS entity
 WHERE entity.version = %s
   AND (SELECT kind = 'local' FROM eventferry.store)
ON CONFLICT DO NOTHING
