-- after, upto, types where {types} is given, limit; {bytes}: nothing, or what select_page counts
SELECT {label}::text AS stream, {columns} {bytes}
  FROM {stream}
 WHERE position > %s AND position <= %s {types} ORDER BY position {direction} LIMIT %s
