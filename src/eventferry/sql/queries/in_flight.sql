-- names of the streams: the appends to them whose transactions are open, oldest first
SELECT streams.name AS stream, marker.pid, activity.usename::text AS "user",
       nullif(activity.application_name, '') AS application, host(activity.client_addr) AS client,
       activity.state, activity.xact_start AS since
  FROM eventferry.streams
  JOIN pg_locks AS marker
    ON marker.locktype = 'advisory' AND marker.objsubid = 2 AND marker.mode = 'ShareLock'
   AND marker.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND marker.classid = eventferry.marker_key(streams.number)::oid
  LEFT JOIN pg_stat_activity AS activity ON activity.pid = marker.pid
 WHERE streams.name = ANY (%s)
 ORDER BY activity.xact_start NULLS FIRST, marker.pid
