-- What a reader needs that merges these rows with events the sink has not stored yet: the versions that its columns go
-- by, and what the sink knows apart where a column shows the one or the other.

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
    cancel_asked_at,                                     -- when its client first wanted it stopped
    requested_model, planned_model,
    requested_at AS asked_at,                            -- null before the request itself has arrived
    first_at,                                            -- the time of its earliest event
    plan_version,                                        -- of plan, skipped, planned_model and deadline_at
    placed_version                                       -- of provider and attempt_id
FROM jobs;

CREATE OR REPLACE VIEW v_tracks AS
SELECT
    t.track_id, t.job_id, t.tenant, t.modality, t.status,
    t.provider, t.model, t.attempt_id,                   -- who made it; null until it is made
    t.artifact_name, t.content_type, t.duration_s,       -- the file to play
    coalesce(t.requested_at, t.first_at) AS created_at,
    t.finished_at, t.updated_at,
    a.expired_at,                                        -- when that file was deleted; null: it is kept
    t.version,
    t.requested_at AS asked_at,                          -- null before the request itself has arrived
    t.first_at                                           -- the time of its earliest event
FROM tracks t LEFT JOIN artifacts a ON a.attempt_id = t.attempt_id AND a.name = t.artifact_name;
