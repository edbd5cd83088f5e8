-- id, service, projection, stream, position, events, seconds
INSERT INTO eventferry.waits (id, service, projection, stream, position, events, until)
VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))
