-- a report, by the names of its columns
INSERT INTO eventferry.reports AS known
       (service, projection, kind, environment, streams, shared_stream, mode, state, lag, behind_s, rate, error, version)
VALUES (%(service)s, %(projection)s, %(kind)s, %(environment)s, %(streams)s, %(shared_stream)s, %(mode)s,
        %(state)s, %(lag)s, %(behind_s)s, %(rate)s, %(error)s, %(version)s)
ON CONFLICT (service, projection) DO UPDATE
   SET kind = excluded.kind, environment = excluded.environment, streams = excluded.streams,
       shared_stream = excluded.shared_stream, mode = excluded.mode, state = excluded.state,
       lag = excluded.lag, behind_s = excluded.behind_s, rate = excluded.rate, error = excluded.error,
       version = excluded.version, reported_at = clock_timestamp()
