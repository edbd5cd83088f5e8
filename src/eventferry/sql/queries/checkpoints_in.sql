-- service, projections; store and streams that are read: how far the projections are in them
SELECT projection, stream, incarnation, position, replay_until, updated_at
  FROM eventferry.checkpoints
 WHERE service = %s AND projection = ANY (%s) AND store = %s AND stream = ANY (%s)
