-- ids
SELECT {columns} FROM {stream} WHERE id = ANY (%s)
