-- What is queried is a column. `body` is the adapter's own record of an attempt: nothing in SQL reads it.
ALTER TABLE attempts
    ADD COLUMN endpoint text,
    ADD COLUMN arguments_hash bytea,                       -- SHA-256 of the arguments; equal for equal inputs
    ADD COLUMN deadline_at timestamptz,
    ADD COLUMN accepted_at timestamptz,
    ADD COLUMN cancel_reason text,
    ADD COLUMN failure_kind text,
    ADD COLUMN expects_callback boolean NOT NULL DEFAULT false,
    ADD COLUMN called_back boolean NOT NULL DEFAULT false,
    ADD COLUMN throttling_reported boolean NOT NULL DEFAULT false;
UPDATE attempts SET
    endpoint = body ->> 'endpoint',
    arguments_hash = sha256(convert_to((body -> 'arguments')::text, 'UTF8')),
    deadline_at = (body ->> 'deadline_at')::timestamptz,
    accepted_at = (body ->> 'accepted_at')::timestamptz,
    cancel_reason = body ->> 'cancel_reason',
    failure_kind = body -> 'failure' ->> 'kind',
    expects_callback = coalesce((body ->> 'expects_callback')::boolean, false),
    called_back = coalesce((body ->> 'called_back')::boolean, false),
    throttling_reported = coalesce((body ->> 'held_back')::boolean, false),
    body = (SELECT jsonb_object_agg(CASE key WHEN 'heard_at' THEN 'listing_answered_at'
                                             WHEN 'deaf_s' THEN 'listing_downtime_s'
                                             WHEN 'held_back' THEN 'throttling_reported' ELSE key END, value)
            FROM jsonb_each(body));
ALTER TABLE attempts
    ALTER COLUMN endpoint SET NOT NULL,
    ALTER COLUMN arguments_hash SET NOT NULL,
    ALTER COLUMN deadline_at SET NOT NULL;

-- A breaker is all columns. The one of the provider as a whole has the scope 'provider'; no endpoint is called so, for
-- each has a slash.
ALTER TABLE gates RENAME TO breakers;
ALTER TABLE breakers
    ADD COLUMN since timestamptz,
    ADD COLUMN state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN openings integer NOT NULL DEFAULT 0,
    ADD COLUMN opened_at timestamptz,
    ADD COLUMN open_until timestamptz,
    ADD COLUMN shut_for text,
    ADD COLUMN probe_at timestamptz,
    ADD COLUMN probe_until timestamptz,
    ADD COLUMN asked_at timestamptz,
    ADD COLUMN hurried boolean NOT NULL DEFAULT false,
    ADD COLUMN blocked_until timestamptz,
    ADD COLUMN tokens double precision,
    ADD COLUMN tokens_at timestamptz,
    ADD COLUMN error text,
    ADD COLUMN last_error_kind text,
    ADD COLUMN last_error text,
    ADD COLUMN last_error_at timestamptz;
UPDATE breakers SET
    scope = coalesce(nullif(scope, ''), 'provider'),
    since = (body ->> 'since')::timestamptz,
    state = coalesce(body ->> 'state', 'closed'),
    failures = coalesce((body ->> 'failures')::integer, 0),
    openings = coalesce((body ->> 'openings')::integer, 0),
    opened_at = (body ->> 'opened_at')::timestamptz,
    open_until = (body ->> 'open_until')::timestamptz,
    shut_for = body ->> 'shut_for',
    probe_at = (body ->> 'probe_at')::timestamptz,
    probe_until = (body ->> 'probe_until')::timestamptz,
    asked_at = (body ->> 'asked_at')::timestamptz,
    hurried = coalesce((body ->> 'hurried')::boolean, false),
    blocked_until = (body ->> 'blocked_until')::timestamptz,
    tokens = (body ->> 'tokens')::double precision,
    tokens_at = (body ->> 'tokens_at')::timestamptz,
    error = body ->> 'error',
    last_error_kind = body -> 'last_error' ->> 'kind',
    last_error = body -> 'last_error' ->> 'message',
    last_error_at = (body -> 'last_error' ->> 'at')::timestamptz;
ALTER TABLE breakers ALTER COLUMN since SET NOT NULL;

-- The same views as before, from columns.
CREATE OR REPLACE VIEW v_gates AS
SELECT CASE WHEN scope = 'provider' THEN '' ELSE scope END AS scope,  -- empty for the provider as a whole
       state,
       since AS well_or_ill_since,
       CASE state WHEN 'open' THEN coalesce(opened_at, since)
                  WHEN 'half_open' THEN coalesce(probe_at, since)
                  ELSE since END AS since,
       CASE state WHEN 'open' THEN open_until WHEN 'half_open' THEN probe_until END AS retry_at,
       CASE WHEN blocked_until > now() THEN blocked_until END AS blocked_until,
       failures,
       openings,
       coalesce(last_error_kind, shut_for) AS error_kind,
       coalesce(last_error, error) AS error,
       last_error_at AS error_at
FROM breakers;

CREATE OR REPLACE VIEW v_load AS
SELECT endpoint,
       state,
       count(*) AS attempts,
       count(*) FILTER (WHERE throttling_reported) AS held_back,
       min(created_at) AS oldest_at
FROM attempts WHERE next_action_at IS NOT NULL GROUP BY endpoint, state;

CREATE OR REPLACE VIEW v_callbacks AS
SELECT count(*) AS expected,
       count(*) FILTER (WHERE called_back) AS heard,
       (array_agg(called_back ORDER BY updated_at DESC))[1] AS arriving  -- the very last one
FROM (
    SELECT expects_callback, called_back, accepted_at, cancel_reason, updated_at FROM attempts
    WHERE updated_at > now() - interval '15 minutes' AND state IN ('collecting', 'succeeded', 'failed')
    ORDER BY updated_at DESC LIMIT 500                     -- so that asking costs the same under any load
) AS newest
WHERE expects_callback AND accepted_at IS NOT NULL
  AND cancel_reason IS NULL;                               -- nobody need be called back about a run that is stopped

CREATE OR REPLACE VIEW v_health AS
SELECT health.provider,
       CASE WHEN breakers.state <> 'closed' THEN 'fail' ELSE health.status END AS status,
       CASE WHEN breakers.state <> 'closed' THEN breakers.error ELSE health.error END AS error,
       CASE WHEN breakers.state <> 'closed' THEN breakers.since
            WHEN health.status = 'ok' THEN greatest(health.since, breakers.since)
            ELSE health.since END AS since,
       health.checked_at
FROM health LEFT JOIN breakers ON breakers.scope = 'provider';

ALTER TABLE breakers DROP COLUMN body;
