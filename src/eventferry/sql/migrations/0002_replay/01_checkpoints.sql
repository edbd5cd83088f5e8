-- Up to this position a projection replays: the events were there before it began.
ALTER TABLE eventferry.checkpoints ADD COLUMN replay_until bigint NOT NULL DEFAULT 0;
