-- ids
SELECT {label}::text AS stream, {columns} FROM {stream} WHERE id = ANY (%s)
