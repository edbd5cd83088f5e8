-- service, projection
SELECT stream, store, incarnation, position, event_id
  FROM eventferry.checkpoints
 WHERE service = %s AND projection = %s
