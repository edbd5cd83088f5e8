-- projection, event ids: how many of them are parked
SELECT count(*) FROM eventferry.parked_events WHERE projection = %s AND event_id = ANY (%s)
