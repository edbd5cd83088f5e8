-- seconds after which who says nothing is dead: the processes that run projections, the first first.
-- A newer version than a process's own is one that came after it, or that is run now: who was started
-- when nobody ran that one any more, has gone back on purpose.
WITH runner AS (
    SELECT *, seen_at > clock_timestamp() - make_interval(secs => %s) AS is_alive FROM eventferry.runners
)
SELECT id, host, pid, command, projections, runner.version, started_at, seen_at, asked_at,
       is_alive, newest.version AS newest_version
  FROM runner
 CROSS JOIN LATERAL (
           SELECT version FROM eventferry.versions AS known
            WHERE known.version = runner.version OR known.first_at > runner.started_at
               OR known.version IN (SELECT peer.version FROM runner AS peer WHERE peer.is_alive)
            ORDER BY first_at DESC LIMIT 1
       ) AS newest
 ORDER BY started_at, id
