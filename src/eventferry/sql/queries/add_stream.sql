-- stream, name
UPDATE eventferry.projections SET streams = array_append(streams, %s) WHERE name = %s
