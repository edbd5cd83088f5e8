-- horizon, position, limit: how many events come after the position, and how many of them
-- after the horizon; counted up to the limit
SELECT count(*), count(*) FILTER (WHERE position > %s)
  FROM (SELECT position FROM {stream} WHERE position > %s ORDER BY position LIMIT %s) AS later
