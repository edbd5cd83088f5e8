-- who, service, projection, action, reason, details
INSERT INTO eventferry.audit (who, service, projection, action, reason, details)
VALUES (%s, %s, %s, %s, %s, %s)
