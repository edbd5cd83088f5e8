-- $1: id
SELECT {label}::text AS stream, {columns} FROM {stream} WHERE id = $1::uuid
