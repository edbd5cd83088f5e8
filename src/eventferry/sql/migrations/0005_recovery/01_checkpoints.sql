-- What a person says to a projection stands where each of its runners has to come by. Who changes
-- the row waits for the batch that has locked it, and so knows that it is over.
ALTER TABLE eventferry.checkpoints
    ADD COLUMN held  boolean NOT NULL DEFAULT false,  -- paused: no runner goes on
    ADD COLUMN stops integer NOT NULL DEFAULT 0,      -- how often its runs have been asked to end
    ADD COLUMN begun bigint  NOT NULL DEFAULT 0,      -- the last of its batches that has said how it ended
    ADD COLUMN marked_at timestamptz;                 -- when its place was last kept
