-- seconds after which who says nothing is dead: the processes that run projections, the first first
SELECT id, host, pid, command, projections, runner.version, started_at, seen_at, asked_at,
       seen_at > clock_timestamp() - make_interval(secs => %s) AS is_alive,
       newest.version AS newest_version
  FROM eventferry.runners AS runner
 CROSS JOIN (SELECT version FROM eventferry.versions ORDER BY first_at DESC LIMIT 1) AS newest
 ORDER BY started_at, id
