-- service, projection, seconds: ends the backend that has the checkpoint and has waited for so long
-- for its client's next rows of a COPY; none of PostgreSQL's own timeouts does
SELECT pg_terminate_backend(activity.pid)
  FROM eventferry.checkpoints AS checkpoint
  JOIN pg_locks AS holder
    ON holder.locktype = 'transactionid' AND holder.mode = 'ExclusiveLock' AND holder.granted
   AND holder.transactionid = checkpoint.xmax
  JOIN pg_stat_activity AS activity ON activity.pid = holder.pid
 WHERE checkpoint.service = %s AND checkpoint.projection = %s
   AND activity.state = 'active' AND activity.wait_event = 'ClientRead'
   AND activity.state_change < clock_timestamp() - make_interval(secs => %s)
