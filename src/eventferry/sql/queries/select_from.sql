-- from (the checkpoint's own event, which takes nothing of the page) twice, horizon, limit
SELECT {label}::text AS stream, {columns},
       CASE WHEN position = %s THEN 0 ELSE pg_column_size(data) + pg_column_size(metadata) END AS bytes
  FROM {stream}
 WHERE position >= %s AND position <= %s ORDER BY position LIMIT %s
