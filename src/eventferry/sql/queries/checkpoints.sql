-- service, projection
SELECT stream, store, incarnation, position, event_id, replay_until
  FROM eventferry.checkpoints
 WHERE service = %s AND projection = %s
