-- Whoever uses the log locks `events` before its partitions. A partition was made with a weaker lock on `events`, under
-- which a sink that had read the log waited to write it, and held what the making of the partition waited for.

CREATE OR REPLACE FUNCTION add_events_partition(month timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = log_sink, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first_instant timestamptz := date_trunc('month', month);
    past_last timestamptz := first_instant + interval '1 month';
    name text := 'events_' || to_char(first_instant, 'YYYY_MM');
BEGIN
    LOCK TABLE events IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    -- PostgreSQL refuses to attach a partition while the default partition has rows of its range.
    EXECUTE format(
        'WITH moved AS (DELETE FROM events_default WHERE occurred_at >= $1 AND occurred_at < $2 RETURNING *)'
        ' INSERT INTO %I SELECT * FROM moved', name) USING first_instant, past_last;
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first_instant, past_last);
END $$;
