-- two positions: how many events come after the one, up to the other
SELECT count(*) FROM {stream} WHERE position > %s AND position <= %s
