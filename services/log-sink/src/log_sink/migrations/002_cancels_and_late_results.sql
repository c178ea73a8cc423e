-- What clients and operators may still ask of a job and its attempts: whether a cancel is under way, when an attempt
-- was first heard of, and by when silence about a lost submit becomes an answer.

ALTER TABLE jobs ADD COLUMN cancel_asked_at timestamptz;
ALTER TABLE attempts ADD COLUMN first_at timestamptz, ADD COLUMN resolve_by timestamptz;

CREATE INDEX attempts_newest ON attempts ((coalesce(first_at, submitting_at, updated_at)) DESC, attempt_id DESC);
CREATE INDEX attempts_ambiguous ON attempts (attempt_id)
    WHERE state = 'ambiguous' OR state = 'failed' AND error_kind = 'ambiguous_submission';
CREATE INDEX attempts_by_run ON attempts (provider, provider_ref) WHERE provider_ref IS NOT NULL;

CREATE OR REPLACE VIEW v_jobs AS
SELECT
    job_id, track_id, tenant, status,
    coalesce(requested_model, planned_model) AS model,   -- what was asked for, or what Segue chose where nothing was
    provider,                                            -- where the job is now, or who made it
    attempt_id,                                          -- its attempt there; null before the first one started
    version, modality, input, plan, skipped,
    providers,                                           -- the order the client asked for, or null
    error,                                               -- failed: {kind, message, attempts: [...]}
    cancel_effect,                                       -- cancelled: never_sent | cancelled_free | may_have_cost
    cost_usd, fingerprint, metadata, origin,
    coalesce(requested_at, first_at) AS requested_at,
    started_at, finished_at, deadline_at, trace_id, updated_at,
    cancel_asked_at                                      -- when its client first wanted it stopped
FROM jobs;

CREATE OR REPLACE VIEW v_attempts AS
SELECT
    attempt_id, job_id, track_id, n, provider, model, endpoint, state, version, provider_ref,
    error_kind, error_code, message, http_status,
    coalesce(accepted, submitted_at IS NOT NULL) AS accepted,
    coalesce(late, false) AS late,                       -- it said more after it had ended; its job goes by the first
    cost_usd, queue_position, submitting_at, submitted_at, finished_at, trace_id, updated_at,
    coalesce(first_at, submitting_at, updated_at) AS first_at,
    resolve_by,                                          -- ambiguous: when silence becomes an answer
    state = 'ambiguous' OR (state = 'failed' AND error_kind = 'ambiguous_submission') AS ambiguous
FROM attempts;
