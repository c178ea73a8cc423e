-- Jobs as the orchestrator decides them, and the attempts it has ordered.
CREATE TABLE jobs (
    job_id         text PRIMARY KEY,
    state          text NOT NULL,
    version        integer NOT NULL,
    next_action_at timestamptz,
    traceparent    text,
    body           jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT known_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT never_stuck CHECK (state IN ('succeeded', 'failed', 'cancelled') OR next_action_at IS NOT NULL)
);
CREATE INDEX due ON jobs (next_action_at) WHERE next_action_at IS NOT NULL;

CREATE TABLE attempts (
    attempt_id text PRIMARY KEY,
    job_id     text NOT NULL REFERENCES jobs,
    provider   text NOT NULL,
    live       boolean NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_live_attempt_a_job ON attempts (job_id) WHERE live;

CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL,
    key        bytea NOT NULL,
    value      bytea NOT NULL,
    headers    jsonb NOT NULL,
    event_id   uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
