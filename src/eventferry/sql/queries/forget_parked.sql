-- projection, event ids, transaction id
DELETE FROM eventferry.parked_events
 WHERE projection = %s AND event_id = ANY (%s) AND pg_current_xact_id()::text = %s
