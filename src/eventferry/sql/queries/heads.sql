-- names of the streams: the last committed position of each
SELECT name, head FROM eventferry.heads(%s::text[])
