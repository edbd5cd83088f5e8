-- handler_timeout; service, projection: the projection's checkpoints, locked until the end of the
-- transaction. A row that another runner has locked is left out. From here on, a runner that
-- freezes is ended by the server, and its transaction with it.
SELECT stream, store, incarnation, position, event_id, pg_current_xact_id()::text,
       set_config('idle_in_transaction_session_timeout', %s, true)
  FROM eventferry.checkpoints
 WHERE service = %s AND projection = %s
   FOR UPDATE SKIP LOCKED
