-- number of the batch; streams, stores, old positions, new positions, new event ids; service,
-- projection, transaction id.
-- As many rows as streams, or the checkpoints are not where this transaction has locked them.
WITH moved AS (
    UPDATE eventferry.checkpoints AS checkpoint
       SET position = moved.position, event_id = moved.event_id, updated_at = clock_timestamp(),
           begun = coalesce(%s, begun),
           marked_at = CASE WHEN marked_at > statement_timestamp() - interval '1 minute'
                            THEN marked_at ELSE statement_timestamp() END
      FROM unnest(%s::text[], %s::uuid[], %s::bigint[], %s::bigint[], %s::uuid[])
           AS moved (stream, store, old, position, event_id)
     WHERE checkpoint.service = %s AND checkpoint.projection = %s
       AND checkpoint.stream = moved.stream AND checkpoint.store = moved.store
       AND checkpoint.position = moved.old
       AND pg_current_xact_id()::text = %s
    RETURNING checkpoint.*
)
SELECT CASE WHEN marked_at = statement_timestamp()
            THEN eventferry.keep_mark(service, projection, stream, store, position, event_id) END
  FROM moved
