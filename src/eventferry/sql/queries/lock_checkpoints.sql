-- milliseconds that the transaction may idle, and that a statement of it may take (NULL: as it is);
-- service, projection: the projection's checkpoints, locked until the end of the transaction.
-- A row that another runner has locked is left out. From here on, a runner that freezes is ended
-- by the server, and its transaction with it.
SELECT stream, store, incarnation, position, event_id, pg_current_xact_id()::text,
       set_config('idle_in_transaction_session_timeout', %s::text, true),
       set_config('statement_timeout', coalesce(%s::text, current_setting('statement_timeout')), true)
  FROM eventferry.checkpoints
 WHERE service = %s AND projection = %s
   FOR UPDATE SKIP LOCKED
