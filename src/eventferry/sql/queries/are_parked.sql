-- projection, stream, ids: whether any of the events is parked
SELECT EXISTS (SELECT FROM eventferry.parked_events WHERE projection = %s AND stream = %s AND event_id = ANY (%s))
