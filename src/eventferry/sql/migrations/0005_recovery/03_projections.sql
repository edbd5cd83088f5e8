ALTER TABLE eventferry.projections
    DROP CONSTRAINT projections_state_check,
    ADD CONSTRAINT projections_state_check CHECK (state IN ('idle', 'retrying', 'failed', 'deleted')),
    ADD COLUMN next_attempt_at timestamptz,   -- while it is retrying
    ADD COLUMN paused_at       timestamptz,
    ADD COLUMN paused_by       text,
    ADD COLUMN pause_reason    text,
    ADD COLUMN stops           integer NOT NULL DEFAULT 0,  -- how often its runs have been asked to end
    ADD COLUMN kept_in         uuid;          -- producing: the identity of the store that has its checkpoint
