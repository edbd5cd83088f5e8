ALTER TABLE eventferry.projections
    DROP CONSTRAINT projections_state_check,
    ADD CONSTRAINT projections_state_check CHECK (state IN ('idle', 'retrying', 'failed', 'deleted')),
    ADD COLUMN next_attempt_at timestamptz,   -- while it is retrying
    ADD COLUMN paused_at       timestamptz,
    ADD COLUMN paused_by       text,
    ADD COLUMN pause_reason    text;
