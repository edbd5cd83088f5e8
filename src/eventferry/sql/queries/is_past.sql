-- service, projection, stream, store, incarnation, position: whether the checkpoint is there, or past it
SELECT EXISTS (SELECT FROM eventferry.checkpoints
                WHERE service = %s AND projection = %s AND stream = %s
                  AND store = %s AND incarnation = %s AND position >= %s)
