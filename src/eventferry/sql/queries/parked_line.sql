-- projection, stream, entity; how many at most: what is parked of the entity, in order
SELECT stream, position, event_id, event_type, entity_id, attempts, error, traceback, fingerprint, parked_at
  FROM eventferry.parked_events
 WHERE projection = %s AND stream = %s AND entity_id = %s
 ORDER BY position LIMIT %s
