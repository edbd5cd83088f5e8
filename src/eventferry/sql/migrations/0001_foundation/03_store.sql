-- Who this store is: one row. Checkpoints remember the id, so that another store
-- under the same URL is an error and not a silent loss.
CREATE TABLE eventferry.store (
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    kind       text NOT NULL CHECK (kind IN ('local', 'shared')),
    service    text,          -- a local store belongs to one service; a shared one to nobody
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX store_one_row ON eventferry.store ((true));
