-- kind, service: whose store it is, said once. A shared store that becomes a service's
-- local one too keeps its kind and learns the service.
INSERT INTO eventferry.store AS store (kind, service) VALUES (%s, %s)
ON CONFLICT ((true)) DO UPDATE SET service = excluded.service
WHERE store.service IS NULL AND excluded.service IS NOT NULL
