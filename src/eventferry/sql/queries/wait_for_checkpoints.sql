-- service, projection; milliseconds that the transaction may idle. The checkpoints are locked when
-- the runners that hold them have ended their batches.
WITH locked AS MATERIALIZED (
    SELECT FROM eventferry.checkpoints WHERE service = %s AND projection = %s ORDER BY stream, store FOR UPDATE
)
SELECT pg_current_xact_id()::text, set_config('idle_in_transaction_session_timeout', %s::text, true), count(*)
  FROM locked
