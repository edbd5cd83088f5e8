-- ids
SELECT id, position FROM {stream} WHERE id = ANY (%s)
