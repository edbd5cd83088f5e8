-- service, projection; milliseconds that the transaction may idle. No batch of the projection begins
-- from here on, and those that are going on have ended.
WITH waited AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(17735, hashtext(service || '/' || projection)), service, projection
      FROM (VALUES (%s::text, %s::text)) AS given (service, projection)
), locked AS MATERIALIZED (
    SELECT FROM eventferry.checkpoints JOIN waited USING (service, projection)
     ORDER BY stream, store FOR UPDATE OF checkpoints
)
SELECT pg_current_xact_id()::text, set_config('idle_in_transaction_session_timeout', %s::text, true), count(*)
  FROM locked
