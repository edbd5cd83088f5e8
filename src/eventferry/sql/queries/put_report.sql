-- service, projection, kind, environment, streams, shared stream, mode, state, lag, behind_s, error, version
INSERT INTO eventferry.reports AS known
       (service, projection, kind, environment, streams, shared_stream, mode, state, lag, behind_s, error, version)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (service, projection) DO UPDATE
   SET kind = excluded.kind, environment = excluded.environment, streams = excluded.streams,
       shared_stream = excluded.shared_stream, mode = excluded.mode, state = excluded.state,
       lag = excluded.lag, behind_s = excluded.behind_s, error = excluded.error, version = excluded.version,
       reported_at = clock_timestamp()
