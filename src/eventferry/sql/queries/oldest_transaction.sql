-- The oldest open transaction that uses a table of ours: its backend, its user, its application,
-- and since when it is open.
SELECT activity.pid, activity.usename::text, activity.application_name, activity.xact_start
  FROM pg_stat_activity AS activity
 WHERE activity.pid IN (
       SELECT held.pid
         FROM pg_locks AS held
         JOIN pg_class AS class ON class.oid = held.relation
        WHERE held.locktype = 'relation' AND held.granted
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND class.relnamespace::regnamespace::text IN ('eventferry', 'streams'))
   AND activity.pid <> pg_backend_pid()
   AND activity.xact_start IS NOT NULL
 ORDER BY activity.xact_start
 LIMIT 1
