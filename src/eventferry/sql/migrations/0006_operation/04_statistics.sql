-- What each projection has done, a row a minute; kept for seven days.
CREATE TABLE eventferry.statistics (
    projection text        NOT NULL,
    minute     timestamptz NOT NULL,
    events     bigint      NOT NULL,        -- dealt with
    failures   bigint      NOT NULL,        -- failed attempts
    busy_s     float8      NOT NULL,        -- in runs that had work
    since      timestamptz NOT NULL,        -- the time that the numbers are of
    until      timestamptz NOT NULL,
    PRIMARY KEY (projection, minute)
);
