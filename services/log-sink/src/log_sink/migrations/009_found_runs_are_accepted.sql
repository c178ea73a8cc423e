-- A run that is found after the end of its attempt has no event of its submit: its id is the evidence that the provider
-- accepted it. Without this, a found run that was then stopped seems never to have been accepted.

CREATE OR REPLACE VIEW v_attempts AS
SELECT
    attempt_id, job_id, track_id, n, provider, model, endpoint, state, version, provider_ref,
    error_kind, error_code, message, http_status,
    coalesce(accepted, submitted_at IS NOT NULL OR provider_ref IS NOT NULL) AS accepted,
    coalesce(late, false) AS late,                       -- it said more after it had ended; its job goes by the first
    cost_usd, queue_position, submitting_at, submitted_at, finished_at, trace_id, updated_at,
    coalesce(first_at, submitting_at, updated_at) AS first_at,
    resolve_by,                                          -- ambiguous: when silence becomes an answer
    state = 'ambiguous' OR (state = 'failed' AND error_kind = 'ambiguous_submission') AS ambiguous
FROM attempts;
