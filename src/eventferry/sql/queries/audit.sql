-- service, projections, how many at most: the latest first
SELECT at, who, projection, action, reason, details
  FROM eventferry.audit
 WHERE service = %s AND projection = ANY (%s)
 ORDER BY id DESC LIMIT %s
