-- streams, name
UPDATE eventferry.projections SET streams = %s WHERE name = %s
