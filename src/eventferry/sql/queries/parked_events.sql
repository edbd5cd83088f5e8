-- projection; event ids or NULL for all: what is parked, in order
SELECT stream, position, event_id, event_type, entity_id, attempts, error, traceback, fingerprint, parked_at
  FROM eventferry.parked_events
 WHERE projection = %(projection)s AND (%(events)s::uuid[] IS NULL OR event_id = ANY (%(events)s))
 ORDER BY position, stream
