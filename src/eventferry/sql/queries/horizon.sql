-- names of the streams
SELECT store, incarnations, head, horizon, in_flight FROM eventferry.horizon(%s::text[])
