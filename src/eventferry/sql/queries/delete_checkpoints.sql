-- service, projection, a stream or NULL for all
DELETE FROM eventferry.checkpoints
 WHERE service = %(service)s AND projection = %(projection)s
   AND (%(stream)s::text IS NULL OR stream = %(stream)s)
