-- projections, how many at most of each, and of all: the latest first
SELECT failed.projection, attempt, stream, position, event_id, event_type, entity_id, error_type,
       left(error, 4000) AS error, right(traceback, 20000) AS traceback, gave_up, failed_at
  FROM unnest(%s::text[]) AS wanted (projection)
 CROSS JOIN LATERAL (SELECT * FROM eventferry.failures AS failed
                      WHERE failed.projection = wanted.projection
                      ORDER BY id DESC LIMIT %s) AS failed
 ORDER BY id DESC LIMIT %s
