-- While the provider's listing shows that a run goes on, its status need not be requested before this time; null: the
-- listing has no say. Written with each step.
ALTER TABLE attempts
    ADD COLUMN check_by timestamptz,
    ADD COLUMN started boolean NOT NULL DEFAULT false;     -- the run has been seen to start
