-- number, name, breaking, version of eventferry
INSERT INTO eventferry.migrations (number, name, breaking, applied_by) VALUES (%s, %s, %s, %s)
