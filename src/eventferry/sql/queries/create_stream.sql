-- name, description: true if it is new
SELECT eventferry.create_stream(%s, stream_description => %s)
