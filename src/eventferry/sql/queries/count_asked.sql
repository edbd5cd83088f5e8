-- projection; entity, event ids, fingerprint, each or NULL: how many are parked, with those that wait behind
-- one that has failed with the error
SELECT count(*)
  FROM eventferry.parked_events
 WHERE projection = %(projection)s
   AND (%(entity)s::text IS NULL OR entity_id = %(entity)s)
   AND (%(events)s::uuid[] IS NULL OR event_id = ANY (%(events)s))
   AND (%(error)s::text IS NULL OR fingerprint = %(error)s OR (stream, entity_id) IN (
            SELECT stream, entity_id FROM eventferry.parked_events
             WHERE projection = %(projection)s AND fingerprint = %(error)s))
