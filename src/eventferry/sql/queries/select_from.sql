-- from (the checkpoint's own event), horizon, limit
SELECT {label}::text AS stream, {columns} FROM {stream}
 WHERE position >= %s AND position <= %s ORDER BY position LIMIT %s
