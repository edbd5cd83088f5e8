-- from (the checkpoint's own event), horizon, limit
SELECT position, id FROM {stream} WHERE position >= %s AND position <= %s ORDER BY position LIMIT %s
