-- projection, a stream or NULL for all, a position: what is behind it
DELETE FROM eventferry.parked_events
 WHERE projection = %(projection)s AND (%(stream)s::text IS NULL OR stream = %(stream)s) AND position > %(after)s
