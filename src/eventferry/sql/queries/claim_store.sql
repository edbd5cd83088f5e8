-- kind, service: whose store it is, said once
INSERT INTO eventferry.store (kind, service) VALUES (%s, %s) ON CONFLICT ((true)) DO NOTHING
