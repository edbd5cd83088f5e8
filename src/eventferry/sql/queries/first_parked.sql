-- projections, how many at most of each: the parked events that have failed, in order
SELECT projection, stream, position, event_id, event_type, entity_id, attempts, error, traceback,
       fingerprint, parked_at
  FROM (SELECT *, row_number() OVER (PARTITION BY projection ORDER BY position, stream) AS place
          FROM eventferry.parked_events WHERE projection = ANY (%s) AND error IS NOT NULL) AS numbered
 WHERE place <= %s
 ORDER BY projection, place
