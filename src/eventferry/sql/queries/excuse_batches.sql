-- service, projection: batches that have begun and not committed had a reason, which is known.
-- Not where another runner is at it: what it leaves behind is counted from its own batch on.
UPDATE eventferry.checkpoints AS checkpoint
   SET begun = eventferry.batches_begun(checkpoint.projection)
  FROM (SELECT service, projection, stream, store
          FROM eventferry.checkpoints
         WHERE service = %s AND projection = %s
           FOR UPDATE SKIP LOCKED) AS free
 WHERE (checkpoint.service, checkpoint.projection, checkpoint.stream, checkpoint.store)
     = (free.service, free.projection, free.stream, free.store)
