-- horizon, position, position, limit: how many events come after the position, and how many of them
-- after the horizon, counted up to the limit; how old the first one is, in seconds (NULL: there is none)
SELECT count(*), count(*) FILTER (WHERE position > %s),
       (SELECT greatest(0, extract(epoch FROM clock_timestamp() - recorded_at))::float8
          FROM {stream} WHERE position > %s ORDER BY position LIMIT 1)
  FROM (SELECT position FROM {stream} WHERE position > %s ORDER BY position LIMIT %s) AS later
