-- names of the streams: on the listening connection, a shared lock each that says "wake me";
-- its number, its name, and whether it was to be had at once (an append may be testing it just now)
SELECT number::text, name, pg_try_advisory_lock_shared(eventferry.sleeper_key(number), 0)
  FROM eventferry.streams
 WHERE name = ANY (%s)
