-- projection; streams and entities: those of which events are parked
SELECT DISTINCT stream, entity_id
  FROM eventferry.parked_events
 WHERE projection = %s
   AND (stream, entity_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
