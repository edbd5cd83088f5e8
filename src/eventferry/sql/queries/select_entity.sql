-- entity_id
SELECT {label}::text AS stream, {columns} FROM {stream} WHERE entity_id = %s ORDER BY position
