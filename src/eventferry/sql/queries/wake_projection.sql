-- name
SELECT pg_notify('eventferry', 'projection:' || %s)
