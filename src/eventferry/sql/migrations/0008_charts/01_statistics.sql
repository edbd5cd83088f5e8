-- What charts of a projection need. Who is older writes the rest, and leaves these as they are.
ALTER TABLE eventferry.statistics
    ADD COLUMN retries   bigint    NOT NULL DEFAULT 0,     -- attempts at events that had failed before
    ADD COLUMN parked    bigint    NOT NULL DEFAULT 0,     -- events that were set aside
    ADD COLUMN calls     bigint[]  NOT NULL DEFAULT '{}',  -- of the handler, by how long they took: a
                                                           -- count a bucket, with the bounds of timing.py
    ADD COLUMN handler_s float8    NOT NULL DEFAULT 0,     -- in all these calls
    ADD COLUMN lag       bigint,                           -- as last seen in the minute; NULL: not looked
    ADD COLUMN behind_s  float8;                           -- the same: how old the first of them was
