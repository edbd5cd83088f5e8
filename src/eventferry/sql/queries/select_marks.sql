-- from (the checkpoint's own event) twice, horizon, limit: as select_from, but what tells how far a
-- page goes
SELECT position, id, CASE WHEN position = %s THEN 0 ELSE pg_column_size(data) + pg_column_size(metadata) END
  FROM {stream}
 WHERE position >= %s AND position <= %s ORDER BY position LIMIT %s
