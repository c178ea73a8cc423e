-- Partitions are created and dropped by functions with the rights of the schema's owner, so that the service's own role
-- needs no right to change tables. They take a month and nothing else, and touch no other table.

CREATE FUNCTION add_events_partition(month timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = log_sink, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first_instant timestamptz := date_trunc('month', month);
    past_last timestamptz := first_instant + interval '1 month';
    name text := 'events_' || to_char(first_instant, 'YYYY_MM');
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    -- PostgreSQL refuses to attach a partition while the default partition has rows of its range.
    LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (DELETE FROM events_default WHERE occurred_at >= $1 AND occurred_at < $2 RETURNING *)'
        ' INSERT INTO %I SELECT * FROM moved', name) USING first_instant, past_last;
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first_instant, past_last);
END $$;

CREATE FUNCTION drop_events_partition(month timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = log_sink, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    EXECUTE format('DROP TABLE %I', 'events_' || to_char(date_trunc('month', month), 'YYYY_MM'));
END $$;

REVOKE EXECUTE ON FUNCTION add_events_partition, drop_events_partition FROM PUBLIC;
