-- service, projections, how many lines of each are looked at, event id: which of them have skipped it
SELECT projection, line.at, line.who, line.reason
  FROM unnest(%(projections)s::text[]) AS wanted (projection)
 CROSS JOIN LATERAL (
       SELECT at, who, reason
         FROM (SELECT at, who, reason, action, details
                 FROM eventferry.audit
                WHERE service = %(service)s AND audit.projection = wanted.projection
                ORDER BY id DESC LIMIT %(limit)s) AS latest
        WHERE action = 'skip' AND details ->> 'event' = %(event)s
        LIMIT 1) AS line
