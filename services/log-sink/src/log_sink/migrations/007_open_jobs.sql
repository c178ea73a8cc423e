-- A list of jobs that are queued or running reads these alone. There are often fewer than a page has, and the list of
-- all jobs was read to its end for them.
CREATE INDEX jobs_open ON jobs (tenant, (coalesce(requested_at, first_at)) DESC, job_id DESC)
    WHERE status IN ('queued', 'running');
