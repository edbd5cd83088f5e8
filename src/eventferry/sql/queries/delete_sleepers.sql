-- pid of the listener, names of the streams: their numbers and names
DELETE FROM eventferry.sleepers
 USING eventferry.streams
 WHERE sleepers.listener = %s AND streams.name = ANY (%s) AND sleepers.stream = streams.number
RETURNING streams.number::text, streams.name
