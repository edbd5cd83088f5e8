-- service, projection: waits for the batch that a runner is at; the run that it belongs to ends
UPDATE eventferry.checkpoints SET stops = stops + 1 WHERE service = %s AND projection = %s
