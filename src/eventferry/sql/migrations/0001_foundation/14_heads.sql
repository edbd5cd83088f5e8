-- The last committed position of each of the named streams (0: empty): is there anything new?
CREATE FUNCTION eventferry.heads(names text[]) RETURNS TABLE (name text, head bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    FOR name IN SELECT s.name FROM eventferry.streams AS s WHERE s.name = ANY (names) LOOP
        EXECUTE format('SELECT coalesce(max(position), 0) FROM streams.%I', name) INTO head;
        RETURN NEXT;
    END LOOP;
END;
$$;
