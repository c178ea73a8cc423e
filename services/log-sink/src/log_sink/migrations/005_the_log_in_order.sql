-- What a job's log is put in order by: which of its subject's events each is, and what the job's own events follow from.

CREATE OR REPLACE VIEW v_job_log AS
SELECT
    occurred_at AS time,
    substring(type FROM '^segue\.(.+)\.v[0-9]+$') AS event,  -- attempt.failed
    track_id, job_id, provider,
    n AS attempt,
    attempt_id,
    coalesce(error_code, error_kind) AS error_code,
    error_kind, http_status, message,
    seq,                                                 -- the order of storing; breaks ties of time
    event_id, type, trace_id,
    (data ->> 'version')::bigint AS version,             -- counts the job's events, or the attempt's; null for requests
    data ->> 'provider_ref' AS provider_ref,             -- the provider's id for the run
    coalesce((data ->> 'late')::boolean, false) AS late, -- the attempt had ended before
    CASE type                                            -- of the job's events: the attempt whose end it follows from
        WHEN 'segue.job.rerouted.v1' THEN split_part(data ->> 'from_attempt_id', '.', 2)::integer
        WHEN 'segue.job.succeeded.v1' THEN n
        WHEN 'segue.job.failed.v1' THEN ended.attempt
        WHEN 'segue.job.cancelled.v1' THEN ended.attempt
    END AS answers_to
FROM events
CROSS JOIN LATERAL (
    SELECT CASE WHEN data #>> '{attempts,-1,outcome}' <> 'live' THEN (data #>> '{attempts,-1,n}')::integer END
) AS ended (attempt);
