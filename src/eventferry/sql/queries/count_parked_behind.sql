-- projection; streams, and a position in each: how many events are parked behind them
SELECT count(*)
  FROM eventferry.parked_events AS parked
  LEFT JOIN unnest(%s::text[], %s::bigint[]) AS place (stream, position) USING (stream)
 WHERE projection = %s AND parked.position > coalesce(place.position, 0)
