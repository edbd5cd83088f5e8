-- error, traceback, fingerprint, projection, event id
UPDATE eventferry.parked_events SET attempts = attempts + 1, error = %s, traceback = %s, fingerprint = %s
 WHERE projection = %s AND event_id = %s
