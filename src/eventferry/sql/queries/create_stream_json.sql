-- :name, :description: true if it is new
SELECT CAST(to_json(eventferry.create_stream(
           CAST(:name AS text), stream_description => CAST(:description AS text)
       )) AS text)
