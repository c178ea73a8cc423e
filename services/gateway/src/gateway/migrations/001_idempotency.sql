-- What each Idempotency-Key was used for, so that the same key with another body is refused on every replica.
CREATE TABLE idempotency (
    tenant      text NOT NULL,
    key         text NOT NULL,
    fingerprint text NOT NULL,
    job_id      text NOT NULL,
    traceparent text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key)
);
