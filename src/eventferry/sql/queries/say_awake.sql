-- names of the streams: on the listening connection, the locks go
SELECT pg_advisory_unlock_shared(eventferry.sleeper_key(number), 0)
  FROM eventferry.streams
 WHERE name = ANY (%s)
