-- name; its workers are woken, to see it
WITH asked AS (
    UPDATE eventferry.projections SET stops = stops + 1 WHERE name = %s
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM asked
