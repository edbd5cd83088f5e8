-- projections: how many events are parked, and of how many entities (one without an entity is alone)
SELECT projection, count(*) AS events,
       count(DISTINCT (stream, coalesce(entity_id, event_id::text))) AS entities
  FROM eventferry.parked_events
 WHERE projection = ANY (%s)
 GROUP BY projection
