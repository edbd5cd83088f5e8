-- The last event of a stream, committed or not yet past the horizon.
SELECT {label}::text AS stream, position, recorded_at FROM {stream} ORDER BY position DESC LIMIT 1
