-- projection, event id
DELETE FROM eventferry.parked_events WHERE projection = %s AND event_id = %s
