-- Idempotency keys are purged by age.
CREATE INDEX idempotency_by_age ON idempotency (created_at);
