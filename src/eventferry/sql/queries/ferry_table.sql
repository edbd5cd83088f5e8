-- A page on its way, where some of it is there already.
CREATE TEMPORARY TABLE eventferry_page (
    place bigint GENERATED ALWAYS AS IDENTITY,
    id uuid, type text, source text, entity_id text, version integer,
    data json, metadata json, occurred_at timestamptz
) ON COMMIT DROP
