-- names of the streams: the appends to them whose transactions are open, oldest first
SELECT stream, pid, prepared, "user", application, client, state, since, open_s, unseen_by
  FROM eventferry.open_appends(%s::text[])
