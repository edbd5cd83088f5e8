-- On the parent and every stream table: what happened, happened.
CREATE FUNCTION eventferry.refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% of %.% refused: streams are append-only', TG_OP, TG_TABLE_SCHEMA, pg_catalog.quote_ident(TG_TABLE_NAME)
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Append an event that corrects the earlier one.';
END;
$$;

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON eventferry.events
    FOR EACH STATEMENT EXECUTE FUNCTION eventferry.refuse_change();
ALTER TABLE eventferry.events ENABLE ALWAYS TRIGGER refuse_change;
