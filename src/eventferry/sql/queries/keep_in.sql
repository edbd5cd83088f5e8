-- identity of the shared store, name
UPDATE eventferry.projections SET kept_in = %s WHERE name = %s
