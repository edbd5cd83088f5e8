-- projection, since, until: what it has done in the minutes from the first up to before the other
SELECT minute, events, failures, retries, parked, busy_s, calls, handler_s, lag, behind_s
  FROM eventferry.statistics
 WHERE projection = %s AND minute >= %s AND minute < %s
 ORDER BY minute
