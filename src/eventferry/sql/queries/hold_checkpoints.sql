-- held?, service, projection: waits for the batch that a runner is at
UPDATE eventferry.checkpoints SET held = %s WHERE service = %s AND projection = %s
