-- How many connections the server takes from others than superusers, and how many there are.
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true)::int, 0) AS allowed,
       (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS open
