-- {columns}: expressions; :entity_id
SELECT CAST(json_build_array({columns}) AS text)
  FROM {stream}
 WHERE entity_id = CAST(:entity_id AS text)
 ORDER BY position
