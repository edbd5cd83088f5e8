-- When a projection was first to run, though a stream of it was missing: the horizon and the head of
-- the store that it reads. It begins there when the stream appears, and not at that moment.
ALTER TABLE eventferry.projections
    ADD COLUMN began_horizon bigint,
    ADD COLUMN began_head    bigint;
