-- answer; id, stream; answer
UPDATE eventferry.waits SET answer = %s WHERE id = %s AND stream = %s AND answer IS DISTINCT FROM %s
