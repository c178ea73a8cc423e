-- The dashboards ask for the jobs of a period, whatever their tenant. Jobs lie in the table about in the order of their
-- times, so a BRIN index is enough: it has no entry for each row, and costs an insert or an update next to nothing.
CREATE INDEX jobs_by_time ON jobs USING brin ((coalesce(requested_at, first_at))) WITH (autosummarize = on);
