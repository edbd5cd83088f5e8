-- place of the last one: the first event of the page that the stream has with other content: its
-- place, its id, its type there, its type here.
SELECT here.place, here.id, there.type, here.type
  FROM pg_temp.eventferry_page AS here
  JOIN {stream} AS there USING (id)
 WHERE here.place <= %s
   AND ((here.type, here.source, here.data::text, here.metadata::text, here.occurred_at)
        IS DISTINCT FROM
        (there.type, there.source, there.data::text, there.metadata::text, there.occurred_at)
     OR (here.entity_id, here.version) IS DISTINCT FROM (there.entity_id, there.version))
 ORDER BY here.place
 LIMIT 1
