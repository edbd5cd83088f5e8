-- $1, $2, $3: as look_at; $6: an entity, which has few events. They are found by it, and then put in
-- order, however many the planner believes that they are.
SELECT {label}::text AS stream, {columns}
  FROM (SELECT * FROM {stream} WHERE entity_id = $6::text OFFSET 0) AS entity
 WHERE position > $1::bigint AND position < $2::bigint
