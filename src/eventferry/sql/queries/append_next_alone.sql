-- As append_next.sql, where the store is known to give out versions and the statement is a
-- transaction by itself: what is in the way and passes the check violates a unique index.
INSERT INTO {stream} ({columns})
SELECT {values}
  FROM (SELECT coalesce(max(version), 0) AS version FROM {stream} WHERE entity_id = %s) AS entity
 WHERE entity.version = %s
