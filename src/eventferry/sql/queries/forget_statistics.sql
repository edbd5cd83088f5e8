-- What is too old to be of use: statistics, processes that have died, versions that nobody runs.
WITH statistics AS (
    DELETE FROM eventferry.statistics WHERE minute < clock_timestamp() - interval '7 days'
), versions AS (
    DELETE FROM eventferry.versions WHERE last_at < clock_timestamp() - interval '1 day'
)
DELETE FROM eventferry.runners WHERE seen_at < clock_timestamp() - interval '1 day'
