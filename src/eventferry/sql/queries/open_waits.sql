-- service, projections: who waits for them, and in which store and stream
SELECT wait.id, wait.projection, wait.stream, wait.position, wait.events AS ids, store.id AS store, stream.incarnation
  FROM eventferry.waits AS wait
  JOIN eventferry.streams AS stream ON stream.name = wait.stream
 CROSS JOIN eventferry.store
 WHERE wait.service = %s AND wait.projection = ANY (%s)
   AND wait.answer IS DISTINCT FROM 'handled' AND wait.until > clock_timestamp()
