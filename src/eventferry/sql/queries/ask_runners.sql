-- Asks all processes of the service to end; those that listen look at once.
WITH asked AS (
    UPDATE eventferry.runners SET asked_at = clock_timestamp() WHERE asked_at IS NULL RETURNING 1
)
SELECT pg_notify('eventferry', 'runners') FROM asked
