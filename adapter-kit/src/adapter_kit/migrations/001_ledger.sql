-- The ledger: every attempt this adapter was ever asked for. Whether a POST may be sent is decided by this table alone.
CREATE TABLE attempts (
    attempt_id     text PRIMARY KEY,
    job_id         text NOT NULL,
    state          text NOT NULL,
    version        integer NOT NULL,
    next_action_at timestamptz,
    provider_ref   text,
    traceparent    text,
    body           jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT known_state CHECK (state IN ('queued', 'submitting', 'running', 'collecting', 'cancelling', 'ambiguous',
                                            'succeeded', 'failed', 'cancelled')),
    CONSTRAINT never_stuck CHECK (state IN ('succeeded', 'failed', 'cancelled') OR next_action_at IS NOT NULL)
);
CREATE UNIQUE INDEX one_live_attempt_a_job ON attempts (job_id) WHERE state NOT IN ('succeeded', 'failed', 'cancelled');
CREATE UNIQUE INDEX one_attempt_a_run ON attempts (provider_ref) WHERE provider_ref IS NOT NULL;
CREATE INDEX due ON attempts (next_action_at) WHERE next_action_at IS NOT NULL;

CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL,
    key        bytea NOT NULL,
    value      bytea NOT NULL,
    headers    jsonb NOT NULL,
    event_id   uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What this adapter knows of its provider; one row, read by the gateway through the view.
CREATE TABLE health (
    provider   text PRIMARY KEY,
    status     text NOT NULL CHECK (status IN ('ok', 'fail')),
    error      text,
    since      timestamptz NOT NULL,
    checked_at timestamptz NOT NULL
);
CREATE VIEW v_health AS SELECT provider, status, error, since, checked_at FROM health;
