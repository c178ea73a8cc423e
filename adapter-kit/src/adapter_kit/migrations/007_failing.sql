-- The step after payment whose last try failed, and which is tried again; null if none.
ALTER TABLE attempts ADD COLUMN failing text CHECK (failing IN ('fetch', 'check', 'cancel'));

-- Whether the last free probe was answered with a refusal of the key; a probe without an answer says nothing of it.
ALTER TABLE health ADD COLUMN key_refused boolean NOT NULL DEFAULT false;

CREATE OR REPLACE VIEW v_load AS
SELECT endpoint,
       state,
       count(*) AS attempts,
       count(*) FILTER (WHERE throttling_reported) AS held_back,
       min(created_at) AS oldest_at,
       count(*) FILTER (WHERE failing = 'fetch') AS fetches_failing
FROM attempts WHERE next_action_at IS NOT NULL GROUP BY endpoint, state;
