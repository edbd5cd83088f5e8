-- projection; entity or NULL, fingerprint or NULL; behind which position and stream; how many at most:
-- the first parked event of each entity, in order; one without an entity is alone
SELECT stream, position, event_id, event_type, entity_id, attempts, error, traceback, fingerprint, parked_at
  FROM eventferry.parked_events AS head
 WHERE projection = %(projection)s AND (position, stream) > (%(position)s::bigint, %(stream)s::text)
   AND (%(entity)s::text IS NULL OR entity_id = %(entity)s)
   AND (%(error)s::text IS NULL OR fingerprint = %(error)s)
   AND (entity_id IS NULL OR NOT EXISTS (
            SELECT FROM eventferry.parked_events AS earlier
             WHERE earlier.projection = head.projection AND earlier.stream = head.stream
               AND earlier.entity_id = head.entity_id AND earlier.position < head.position))
 ORDER BY position, stream LIMIT %(limit)s
