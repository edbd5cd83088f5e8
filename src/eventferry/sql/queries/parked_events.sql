-- projection; entity or NULL, event id or NULL: what is parked, in order
SELECT stream, position, event_id, event_type, entity_id, attempts, error, traceback, parked_at
  FROM eventferry.parked_events
 WHERE projection = %(projection)s
   AND (%(entity)s::text IS NULL OR entity_id = %(entity)s)
   AND (%(event)s::uuid IS NULL OR event_id = %(event)s)
 ORDER BY position, stream
