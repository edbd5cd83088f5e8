-- For who only looks, in this transaction: he writes nothing, takes no longer than this, and reads no
-- table from end to end; of many streams, a statement is planned once a connection (ADR 0013). To start
-- a parallel worker, or to compile, takes longer than all that he may read.
SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', '10s', true),
       set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true),
       set_config('plan_cache_mode', 'force_generic_plan', true)
