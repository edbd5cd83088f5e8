-- What has been applied to this store. Code refuses a store whose newest *breaking* migration
-- it does not know; any other newer migration it can live with.
CREATE TABLE eventferry.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    breaking   boolean NOT NULL,
    applied_by text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
