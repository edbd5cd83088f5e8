-- projections: how many events are parked, and of how many entities (one without an entity is alone);
-- from the index parked_entities, as the rows have tracebacks
SELECT asked.projection, events, entities
  FROM unnest(%s::text[]) AS asked (projection)
 CROSS JOIN LATERAL (
           SELECT count(*) AS events,
                  count(DISTINCT (stream, entity_id)) FILTER (WHERE entity_id IS NOT NULL)
                  + count(*) FILTER (WHERE entity_id IS NULL) AS entities
             FROM (SELECT stream, entity_id FROM eventferry.parked_events AS parked
                    WHERE parked.projection = asked.projection ORDER BY stream, entity_id) AS parked
       ) AS counted
 WHERE events > 0
