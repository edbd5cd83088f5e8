-- service, stream of the shared store: the projections of other services that read it or ferry to it,
-- as they last said
SELECT service, projection, kind, state, lag, behind_s, error, reported_at
  FROM eventferry.reports
 WHERE service <> %(service)s
   AND (kind = 'consuming' AND environment = 'shared' AND %(stream)s = ANY (streams)
        OR kind = 'producing' AND shared_stream = %(stream)s)
 ORDER BY service, projection
