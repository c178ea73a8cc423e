-- What happened (events, append-only) and what is true now (jobs, attempts, tracks, artifacts), from Kafka alone.
-- The views at the end are what other services may read; their columns only ever grow.

CREATE SEQUENCE events_seq;

-- event_id alone says whether an event is known: the same event told again may carry another time. A unique index
-- would need the partition key in it, so the writer makes sure, under the lock of the Kafka partition's offsets row.
CREATE TABLE events (
    event_id        text NOT NULL,
    seq             bigint NOT NULL DEFAULT nextval('events_seq'),
    type            text NOT NULL,
    occurred_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    topic           text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    job_id          text NOT NULL,
    track_id        text,
    attempt_id      text,
    n               integer,
    provider        text,
    error_kind      text,
    error_code      text,
    http_status     integer,
    message         text NOT NULL,
    trace_id        text,
    data            jsonb NOT NULL,
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX events_by_job ON events (job_id, occurred_at);
CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE TABLE jobs (
    job_id          text PRIMARY KEY,
    track_id        text,
    tenant          text NOT NULL,
    requested_model text,
    providers       jsonb,
    modality        text,
    input           jsonb,
    fingerprint     text,
    metadata        jsonb,
    origin          text,
    requested_at    timestamptz,
    first_at        timestamptz NOT NULL,
    plan_version    bigint,
    planned_model   text,
    plan            jsonb,
    skipped         jsonb,
    deadline_at     timestamptz,
    placed_version  bigint,
    provider        text,
    attempt_id      text,
    started_at      timestamptz,
    version         bigint NOT NULL,
    status          text NOT NULL,
    error           jsonb,
    cancel_effect   text,
    cost_usd        double precision,
    finished_at     timestamptz,
    trace_id        text,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX jobs_newest ON jobs (tenant, (coalesce(requested_at, first_at)) DESC, job_id DESC);

CREATE TABLE attempts (
    attempt_id      text PRIMARY KEY,
    job_id          text NOT NULL,
    track_id        text NOT NULL,
    n               integer NOT NULL,
    provider        text NOT NULL,
    model           text NOT NULL,
    endpoint        text NOT NULL,
    provider_ref    text,
    version         bigint NOT NULL,
    state           text NOT NULL,
    error_kind      text,
    error_code      text,
    message         text,
    http_status     integer,
    accepted        boolean,
    late            boolean,
    cost_usd        double precision,
    queue_position  bigint,
    submitting_at   timestamptz,
    submitted_at    timestamptz,
    finished_at     timestamptz,
    trace_id        text,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX attempts_by_job ON attempts (job_id, n);

CREATE TABLE tracks (
    track_id        text PRIMARY KEY,
    job_id          text NOT NULL,
    tenant          text NOT NULL,
    modality        text,
    requested_at    timestamptz,
    first_at        timestamptz NOT NULL,
    version         bigint NOT NULL,
    status          text NOT NULL,
    attempt_id      text,
    provider        text,
    model           text,
    artifact_name   text,
    content_type    text,
    duration_s      double precision,
    finished_at     timestamptz,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX tracks_newest ON tracks (tenant, (coalesce(requested_at, first_at)) DESC, track_id DESC);

CREATE TABLE artifacts (
    attempt_id      text NOT NULL,
    name            text NOT NULL,
    job_id          text NOT NULL,
    content_type    text NOT NULL,
    size_bytes      bigint NOT NULL,
    sha256          text NOT NULL,
    duration_s      double precision,
    width           integer,
    height          integer,
    PRIMARY KEY (attempt_id, name)
);
CREATE INDEX artifacts_by_job ON artifacts (job_id, name);

-- How far each Kafka partition was read. Its row's lock keeps two writers of one partition apart, and a first offset
-- beyond next_offset shows a gap; what is stored or dropped never depends on it.
CREATE TABLE offsets (
    topic           text NOT NULL,
    kafka_partition integer NOT NULL,
    next_offset     bigint,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, kafka_partition)
);

-- Messages that could be read but that Postgres refuses, whole. The digest is in the key because offsets start again
-- when a topic is made anew. Headers are [name, base64 or null] pairs.
CREATE TABLE quarantine (
    topic           text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    digest          bytea NOT NULL GENERATED ALWAYS AS (sha256(value)) STORED,
    key             bytea,
    value           bytea NOT NULL,
    headers         jsonb NOT NULL,
    error           text NOT NULL,
    quarantined_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, kafka_partition, kafka_offset, digest)
);

CREATE VIEW v_jobs AS
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
    started_at, finished_at, deadline_at, trace_id, updated_at
FROM jobs;

CREATE VIEW v_attempts AS
SELECT
    attempt_id, job_id, track_id, n, provider, model, endpoint, state, version, provider_ref,
    error_kind, error_code, message, http_status,
    coalesce(accepted, submitted_at IS NOT NULL) AS accepted,
    coalesce(late, false) AS late,
    cost_usd, queue_position, submitting_at, submitted_at, finished_at, trace_id, updated_at
FROM attempts;

CREATE VIEW v_tracks AS
SELECT
    track_id, job_id, tenant, modality, status,
    provider, model, attempt_id,                         -- who made it; null until it is made
    artifact_name, content_type, duration_s,             -- the file to play
    coalesce(requested_at, first_at) AS created_at,
    finished_at, updated_at
FROM tracks;

CREATE VIEW v_artifacts AS
SELECT
    a.job_id, a.name, a.attempt_id, a.content_type, a.size_bytes, a.sha256, a.duration_s, a.width, a.height,
    -- Made by an attempt that did not decide the job: kept, shown with its attempt, not the job's result.
    coalesce(j.status IN ('succeeded', 'failed', 'cancelled')
             AND (j.status <> 'succeeded' OR j.attempt_id <> a.attempt_id), false) AS late
FROM artifacts a LEFT JOIN jobs j USING (job_id);

CREATE VIEW v_job_log AS
SELECT
    occurred_at AS time,
    substring(type FROM '^segue\.(.+)\.v[0-9]+$') AS event,  -- attempt.failed
    track_id, job_id, provider,
    n AS attempt,
    attempt_id,
    coalesce(error_code, error_kind) AS error_code,
    error_kind, http_status, message,
    seq,                                                 -- the order of storing; breaks ties of time
    event_id, type, trace_id
FROM events;
