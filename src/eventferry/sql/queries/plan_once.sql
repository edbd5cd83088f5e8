-- In this transaction, what is prepared is planned once, and not for its parameters: ADR 0013.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true)
