-- Part of find_moment.
SELECT position, recorded_at FROM {stream}
 WHERE position >= middle AND position < high ORDER BY position LIMIT 1
