-- On the parent: its stream tables' own triggers would not fire, so no marker would be taken.
CREATE FUNCTION eventferry.refuse_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'insert into the table of the stream, not into eventferry.events: %',
            coalesce((SELECT string_agg(format('streams.%I', name), ', ' ORDER BY number)
                      FROM (SELECT name, number FROM eventferry.streams ORDER BY number LIMIT 10) AS first_ten),
                     'create a stream first')
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Only there is the append marked, so that no reader misses it.';
END;
$$;

CREATE TRIGGER refuse_insert BEFORE INSERT ON eventferry.events
    FOR EACH STATEMENT EXECUTE FUNCTION eventferry.refuse_insert();
ALTER TABLE eventferry.events ENABLE ALWAYS TRIGGER refuse_insert;
