-- The gates: breaker, rate and patience, one row for the provider (scope '') and one for each of its endpoints. All
-- replicas share them.
CREATE TABLE gates (
    scope      text PRIMARY KEY,
    body       jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recently_changed ON attempts (updated_at);

-- The provider is as well as its gate says; while that is open to all, as the last probe said.
CREATE OR REPLACE VIEW v_health AS
SELECT health.provider,
       CASE WHEN gates.body ->> 'state' <> 'closed' THEN 'fail' ELSE health.status END AS status,
       CASE WHEN gates.body ->> 'state' <> 'closed' THEN gates.body ->> 'error' ELSE health.error END AS error,
       CASE WHEN gates.body ->> 'state' <> 'closed' THEN (gates.body ->> 'since')::timestamptz ELSE health.since END
           AS since,
       health.checked_at
FROM health LEFT JOIN gates ON gates.scope = '';
