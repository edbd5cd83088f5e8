-- Asks all processes of the service to end; those that listen look at once.
WITH asked AS (
    UPDATE eventferry.runners SET asked_at = clock_timestamp() WHERE asked_at IS NULL RETURNING id
)
SELECT id, pg_notify('eventferry', 'runners') FROM asked
