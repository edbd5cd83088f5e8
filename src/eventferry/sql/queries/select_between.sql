-- after, upto, types where {types} is given, limit
SELECT {label}::text AS stream, {columns} FROM {stream}
 WHERE position > %s AND position <= %s {types} ORDER BY position {direction} LIMIT %s
