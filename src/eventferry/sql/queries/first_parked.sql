-- projections, how many at most of each: the parked events that have failed, in order
SELECT first.*
  FROM unnest(%s::text[]) AS asked (projection)
 CROSS JOIN LATERAL (
           SELECT projection, stream, position, event_id, event_type, entity_id, attempts, error,
                  traceback, fingerprint, parked_at
             FROM eventferry.parked_events AS parked
            WHERE parked.projection = asked.projection AND error IS NOT NULL
            ORDER BY position, stream LIMIT %s
       ) AS first
