-- The log keeps bodies as they were received. The decoder of messages takes 3.0 for 3 and "yes" for true, and ignores
-- unknown fields; a cast of such text failed, and with it every read of the job's log.

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
    -- Counts the job's events, or the attempt's; null for requests, and where there is no such number.
    substring(data ->> 'version' FROM '^([0-9]{1,18})(?:\.0+)?$')::bigint AS version,
    data ->> 'provider_ref' AS provider_ref,             -- the provider's id for the run
    coalesce(data ->> 'late' ~* '^(true|t|yes|y|on|1(\.0+)?)$', false) AS late,  -- the attempt had ended before
    CASE type                                            -- of the job's events: the attempt whose end it follows from
        WHEN 'segue.job.rerouted.v1' THEN substring(data ->> 'from_attempt_id' FROM '\.([0-9]{1,4})$')::integer
        WHEN 'segue.job.succeeded.v1' THEN n
        WHEN 'segue.job.failed.v1' THEN ended.attempt
        WHEN 'segue.job.cancelled.v1' THEN ended.attempt
    END AS answers_to
FROM events
CROSS JOIN LATERAL (
    SELECT CASE WHEN data #>> '{attempts,-1,outcome}' <> 'live'
           THEN substring(data #>> '{attempts,-1,n}' FROM '^([0-9]{1,4})(?:\.0+)?$')::integer END
) AS ended (attempt);
