-- the services that have reported lately, and their projections
SELECT service, array_agg(projection ORDER BY projection) FROM eventferry.reports GROUP BY service
