-- projections; positions and streams of an event; its id: which of them have set it aside, and with
-- which error (NULL: it waits behind another)
SELECT projection, error
  FROM unnest(%s::text[]) AS wanted (projection)
 CROSS JOIN unnest(%s::bigint[], %s::text[]) AS place (position, stream)
  JOIN eventferry.parked_events AS parked USING (projection, position, stream)
 WHERE event_id = %s
