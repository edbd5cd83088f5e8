-- name, owner: the stream that a service ferries to, if it is not there yet
SELECT eventferry.create_stream(%s, %s)
