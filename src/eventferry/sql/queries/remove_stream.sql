-- stream, name
UPDATE eventferry.projections SET streams = array_remove(streams, %s) WHERE name = %s
