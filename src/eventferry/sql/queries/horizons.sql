-- names of streams: up to where each may be read
SELECT name, (eventferry.horizon(ARRAY[name])).horizon FROM unnest(%s::text[]) AS wanted (name)
