-- {columns}: expressions; :ids: a JSON array
SELECT CAST(json_build_array({columns}) AS text)
  FROM {stream}
 WHERE id = ANY (ARRAY(SELECT CAST(id AS uuid)
                         FROM json_array_elements_text(CAST(:ids AS json)) AS given (id)))
