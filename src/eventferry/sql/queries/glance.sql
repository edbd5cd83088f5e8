-- names of the streams: the last position drawn, and how many appends to them are in flight
SELECT head, in_flight FROM eventferry.horizon(%s::text[])
