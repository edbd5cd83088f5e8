-- names of the streams; whether to ask in whatever isolation there is: the function refuses a wrong one
SELECT store, incarnations, head, horizon, in_flight FROM eventferry.horizon(%s::text[])
 WHERE %s OR current_setting('transaction_isolation') = 'read committed'
