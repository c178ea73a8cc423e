-- Artifacts expire: expired_at is set first, and from then on the file counts as gone; removed_at once it is deleted.
-- kept_days is the rule by which it went. A replica that does not know of made_at yet leaves it to the default.
ALTER TABLE artifacts
    ADD COLUMN made_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN expired_at timestamptz,
    ADD COLUMN kept_days double precision,
    ADD COLUMN removed_at timestamptz;
UPDATE artifacts SET made_at = attempts.finished_at
FROM attempts WHERE attempts.attempt_id = artifacts.attempt_id AND attempts.finished_at IS NOT NULL;
CREATE INDEX artifacts_by_age ON artifacts (made_at, attempt_id, name) WHERE removed_at IS NULL;
CREATE INDEX quarantine_by_age ON quarantine (quarantined_at);

CREATE OR REPLACE VIEW v_artifacts AS
SELECT
    a.job_id, a.name, a.attempt_id, a.content_type, a.size_bytes, a.sha256, a.duration_s, a.width, a.height,
    -- Made by an attempt that did not decide the job: kept, shown with its attempt, not the job's result.
    coalesce(j.status IN ('succeeded', 'failed', 'cancelled')
             AND (j.status <> 'succeeded' OR j.attempt_id <> a.attempt_id), false) AS late,
    a.made_at,
    a.expired_at,                                        -- when the file was deleted; null: it is kept
    a.kept_days                                          -- the rule by which it was
FROM artifacts a LEFT JOIN jobs j USING (job_id);

CREATE OR REPLACE VIEW v_tracks AS
SELECT
    t.track_id, t.job_id, t.tenant, t.modality, t.status,
    t.provider, t.model, t.attempt_id,                   -- who made it; null until it is made
    t.artifact_name, t.content_type, t.duration_s,       -- the file to play
    coalesce(t.requested_at, t.first_at) AS created_at,
    t.finished_at, t.updated_at,
    a.expired_at                                         -- when that file was deleted; null: it is kept
FROM tracks t LEFT JOIN artifacts a ON a.attempt_id = t.attempt_id AND a.name = t.artifact_name;
