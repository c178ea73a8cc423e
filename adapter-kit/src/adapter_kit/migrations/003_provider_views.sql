-- Whose turn it is to ask the provider for free: one replica at a time, and not before next_at. A replica that dies with
-- the question in hand loses its turn when held_until is over.
CREATE TABLE free_probe (
    provider   text PRIMARY KEY,
    held_until timestamptz NOT NULL,
    next_at    timestamptz NOT NULL
);

-- The caps in force, as the adapter that asked last runs with them.
ALTER TABLE health ADD COLUMN concurrent_runs integer, ADD COLUMN submits_per_minute integer;

-- What follows is for the gateway; the columns of these views only ever grow.

-- What the free probe said last, whatever the gates say.
CREATE VIEW v_free_probe AS
SELECT provider, status, error, since, checked_at, concurrent_runs, submits_per_minute FROM health;

-- Each gate, with the provider's own first.
CREATE VIEW v_gates AS
SELECT scope,                                              -- an endpoint; empty for the provider as a whole
       coalesce(body ->> 'state', 'closed') AS state,
       (body ->> 'since')::timestamptz AS well_or_ill_since,
       CASE body ->> 'state' WHEN 'open' THEN coalesce(body ->> 'opened_at', body ->> 'since')
                             WHEN 'half_open' THEN coalesce(body ->> 'probe_at', body ->> 'since')
                             ELSE body ->> 'since' END::timestamptz AS since,
       CASE body ->> 'state' WHEN 'open' THEN body ->> 'open_until'
                             WHEN 'half_open' THEN body ->> 'probe_until' END::timestamptz AS retry_at,
       CASE WHEN (body ->> 'blocked_until')::timestamptz > now() THEN (body ->> 'blocked_until')::timestamptz END
           AS blocked_until,
       coalesce((body ->> 'failures')::integer, 0) AS failures,
       coalesce((body ->> 'openings')::integer, 0) AS openings,
       coalesce(body -> 'last_error' ->> 'kind', body ->> 'shut_for') AS error_kind,
       coalesce(body -> 'last_error' ->> 'message', body ->> 'error') AS error,
       (body -> 'last_error' ->> 'at')::timestamptz AS error_at
FROM gates;

-- What is under way and what waits, by endpoint and state. A final state is an attempt that is still looked after.
CREATE VIEW v_load AS
SELECT body ->> 'endpoint' AS endpoint,
       state,
       count(*) AS attempts,
       count(*) FILTER (WHERE body ->> 'held_back' = 'true') AS held_back,
       min(created_at) AS oldest_at
FROM attempts WHERE next_action_at IS NOT NULL GROUP BY body ->> 'endpoint', state;

-- Whether the provider calls back, from the newest runs of the last 15 minutes about whose end it should have.
CREATE VIEW v_callbacks AS
SELECT count(*) AS expected,
       count(*) FILTER (WHERE body ->> 'called_back' = 'true') AS heard,
       (array_agg(body ->> 'called_back' = 'true' ORDER BY updated_at DESC))[1] AS arriving  -- the very last one
FROM (
    SELECT body, updated_at FROM attempts
    WHERE updated_at > now() - interval '15 minutes' AND state IN ('collecting', 'succeeded', 'failed')
    ORDER BY updated_at DESC LIMIT 500                     -- so that asking costs the same under any load
) AS newest
WHERE body ->> 'expects_callback' = 'true' AND body ->> 'accepted_at' IS NOT NULL
  AND body ->> 'cancel_reason' IS NULL;                    -- nobody need be called back about a run that is stopped

-- The same columns as before; a provider that is well has been so since its gate closed or its probe was content,
-- whichever came later.
CREATE OR REPLACE VIEW v_health AS
SELECT health.provider,
       CASE WHEN gates.body ->> 'state' <> 'closed' THEN 'fail' ELSE health.status END AS status,
       CASE WHEN gates.body ->> 'state' <> 'closed' THEN gates.body ->> 'error' ELSE health.error END AS error,
       CASE WHEN gates.body ->> 'state' <> 'closed' THEN (gates.body ->> 'since')::timestamptz
            WHEN health.status = 'ok' THEN greatest(health.since, (gates.body ->> 'since')::timestamptz)
            ELSE health.since END AS since,
       health.checked_at
FROM health LEFT JOIN gates ON gates.scope = '';
