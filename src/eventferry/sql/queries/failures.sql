-- projections, how many at most of each (NULL: all): the latest first
SELECT projection, attempt, stream, position, event_id, event_type, entity_id, error_type, error,
       traceback, gave_up, failed_at
  FROM (SELECT *, row_number() OVER (PARTITION BY projection ORDER BY id DESC) AS place
          FROM eventferry.failures WHERE projection = ANY (%s)) AS numbered
 WHERE (place <= %s) IS NOT FALSE
 ORDER BY id DESC
