-- service, projections: where they are, and the pid that holds the row now, if one does.
-- Who has locked or changed a row stands in its xmax until the transaction is over; every
-- transaction that has an id holds a lock on it. So a runner is seen without being disturbed.
SELECT checkpoint.projection, checkpoint.stream, checkpoint.position, holder.pid AS locked_by
  FROM eventferry.checkpoints AS checkpoint
  LEFT JOIN pg_locks AS holder
    ON holder.locktype = 'transactionid' AND holder.mode = 'ExclusiveLock' AND holder.granted
   AND holder.transactionid = checkpoint.xmax
 WHERE checkpoint.service = %s AND checkpoint.projection = ANY (%s)
