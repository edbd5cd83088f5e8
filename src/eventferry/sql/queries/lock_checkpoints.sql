-- milliseconds that the transaction may idle, and that a statement of it may take (NULL: as it is);
-- service, projection; streams, stores, incarnations, positions, event ids and stops of the
-- checkpoints; whether its batches are counted, and events of it may be parked; projection.
-- Locks them until the end of the transaction; one that another runner has locked is left out.
-- From here on, a runner that freezes is ended by the server, and its transaction with it.
-- None of its timeouts strikes while it waits for the rows of a COPY: there it is the connection that
-- must be looked at, or a machine that vanishes would hold a ferry's stream for two hours.
-- Who waits for the projection's batches to end comes first: a runner steps aside, and is not in front
-- of it again and again.
-- A batch is counted only if it begins: if all checkpoints are there, in their place, and not held.
WITH said AS MATERIALIZED (
    SELECT set_config('idle_in_transaction_session_timeout', %s::text, true),
           set_config('statement_timeout', coalesce(%s::text, current_setting('statement_timeout')), true),
           set_config('tcp_keepalives_idle', '15', true),
           set_config('tcp_keepalives_interval', '5', true),
           set_config('tcp_keepalives_count', '3', true)
), free AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock_shared(17735, hashtext(%s || '/' || %s)) AS is_free
), locked AS MATERIALIZED (
    SELECT stream, store, incarnation, position, event_id, held, stops, begun
      FROM eventferry.checkpoints
     WHERE service = %s AND projection = %s
       FOR UPDATE SKIP LOCKED
), seen AS MATERIALIZED (
    SELECT (SELECT is_free FROM free) AND coalesce(every(locked.stream IS NOT NULL), true) AS all_locked,
           coalesce(every((locked.incarnation, locked.position, locked.event_id)
                          IS NOT DISTINCT FROM (wanted.incarnation, wanted.position, wanted.event_id)), true) AS in_place,
           coalesce(bool_or(locked.held OR locked.stops <> wanted.stops), false) AS halted,
           (SELECT max(begun) FROM locked) AS begun
      FROM unnest(%s::text[], %s::uuid[], %s::uuid[], %s::bigint[], %s::uuid[], %s::integer[])
           AS wanted (stream, store, incarnation, position, event_id, stops)
      LEFT JOIN locked USING (stream, store)
)
SELECT all_locked, in_place, halted, pg_current_xact_id()::text,
       CASE WHEN counted AND all_locked AND in_place AND NOT halted THEN eventferry.begin_batch(name, begun) END,
       counted AND EXISTS (SELECT FROM eventferry.parked_events WHERE projection = name)
  FROM said, seen, (VALUES (%s, %s)) AS parameters (counted, name)
