-- service: its projections of which nobody has said anything for seven days; they are not there any more
DELETE FROM eventferry.reports WHERE service = %s AND reported_at < clock_timestamp() - interval '7 days'
