-- The appends to the streams whose transactions are open, oldest first: what holds their readers back.
-- Everybody may ask, and is told who has to be spoken to, but no statements. What ordinary roles do
-- not see of others in pg_stat_activity, this function's owner sees, if it is a superuser or has
-- pg_read_all_stats.
--   prepared   the name of a prepared transaction, which has no backend
--   open_s     since when it is open, in seconds by this clock
--   unseen_by  the owner, where it does not see more of a backend than its user and application
CREATE FUNCTION eventferry.open_appends(names text[])
RETURNS TABLE (stream text, pid integer, prepared text, "user" text, application text, client text,
               state text, since timestamptz, open_s float8, unseen_by text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT streams.name, marker.pid, prepared.gid, coalesce(activity.usename, prepared.owner),
           nullif(activity.application_name, ''), host(activity.client_addr), activity.state, began.at,
           extract(epoch FROM clock_timestamp() - began.at)::float8,
           CASE WHEN activity.pid IS NOT NULL AND activity.state IS NULL THEN current_user END
      FROM eventferry.streams
      JOIN pg_locks AS marker
        ON marker.locktype = 'advisory' AND marker.objsubid = 2 AND marker.mode = 'ShareLock'
       AND marker.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND marker.classid = eventferry.marker_key(streams.number)::oid
      LEFT JOIN pg_stat_activity AS activity ON activity.pid = marker.pid
      LEFT JOIN (pg_locks AS own JOIN pg_prepared_xacts AS prepared ON prepared.transaction = own.transactionid)
        ON own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock' AND own.pid IS NULL
       AND own.virtualtransaction = marker.virtualtransaction AND marker.pid IS NULL
     CROSS JOIN LATERAL (VALUES (coalesce(activity.xact_start, prepared.prepared))) AS began (at)
     WHERE streams.name = ANY (names)
     ORDER BY began.at NULLS FIRST, marker.pid
$$;
