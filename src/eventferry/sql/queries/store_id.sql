-- which store this is
SELECT id FROM eventferry.store
