-- Who sleeps, waiting for a notification of which stream. Unlogged: after a crash
-- every listener is gone, and says so again when it is back.
CREATE UNLOGGED TABLE eventferry.sleepers (
    stream   smallint NOT NULL,
    listener integer  NOT NULL,      -- the pid of the backend that LISTENs
    PRIMARY KEY (stream, listener)
);
