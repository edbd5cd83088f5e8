-- name, owner, description: true if it is new
SELECT eventferry.create_stream(%s, %s, %s)
