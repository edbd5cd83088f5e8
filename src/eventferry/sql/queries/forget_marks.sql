-- service, projection, a stream or NULL for all, a position: what is behind it
DELETE FROM eventferry.marks
 WHERE service = %(service)s AND projection = %(projection)s
   AND (%(stream)s::text IS NULL OR stream = %(stream)s) AND position > %(after)s
