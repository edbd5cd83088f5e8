-- What has been applied, oldest first.
SELECT number, name, breaking FROM eventferry.migrations ORDER BY number
