-- service, projection; `deaths`: batches from here that have ended without a word
SELECT stream, store, incarnation, position, event_id, replay_until, held, stops,
       eventferry.batch_deaths(eventferry.batch_count(projection), max(begun) OVER ()) AS deaths
  FROM eventferry.checkpoints
 WHERE service = %s AND projection = %s
