-- position, event id; service, projection, stream, position: past the event, unless it is already
UPDATE eventferry.checkpoints
   SET position = %s, event_id = %s, updated_at = clock_timestamp(),
       begun = eventferry.batches_begun(projection)
 WHERE service = %s AND projection = %s AND stream = %s AND position < %s
