-- $1: an entity, $2: how many of its events are counted
SELECT count(*) FROM (SELECT FROM {stream} WHERE entity_id = $1::text LIMIT $2::bigint) AS counted
