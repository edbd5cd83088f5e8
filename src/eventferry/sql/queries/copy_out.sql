-- after, upto
COPY (SELECT {columns} FROM {stream} WHERE position > %s AND position <= %s ORDER BY position)
TO STDOUT (FORMAT BINARY)
