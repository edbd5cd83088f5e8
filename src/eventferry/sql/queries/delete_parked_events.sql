-- projection, event ids
DELETE FROM eventferry.parked_events WHERE projection = %s AND event_id = ANY (%s)
