-- projection, error type, seconds: how many entities have failed for good like this of late, and
-- since somebody has let the projection go on
SELECT count(DISTINCT (stream, coalesce(entity_id, event_id::text)))
  FROM eventferry.failures
 WHERE projection = %(projection)s AND error_type = %(error_type)s AND gave_up
   AND failed_at > clock_timestamp() - make_interval(secs => %(seconds)s)
   AND failed_at > coalesce((SELECT max(at) FROM eventferry.audit
                              WHERE (service, projection) = (%(service)s, %(projection)s)
                                AND action IN ('resume', 'retry')),
                            '-infinity')
