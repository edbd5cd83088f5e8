-- {bytes}: nothing, or what select_page counts, where its first parameter is the checkpoint's own event,
-- which takes nothing of the page; from (that event), horizon, limit
SELECT {label}::text AS stream, {columns} {bytes}
  FROM {stream}
 WHERE position >= %s AND position <= %s ORDER BY position LIMIT %s
