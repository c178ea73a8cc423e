-- Finished jobs are purged by age, with the attempts they ordered.
CREATE INDEX jobs_ended ON jobs (updated_at) WHERE next_action_at IS NULL;
CREATE INDEX attempts_by_job ON attempts (job_id);
