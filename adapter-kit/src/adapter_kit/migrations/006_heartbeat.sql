-- When a replica of this adapter was last heard of. Every replica that consumes commands writes it.
CREATE TABLE heartbeat (
    provider text PRIMARY KEY,
    beat_at timestamptz NOT NULL
);

-- For the orchestrator, which orders nothing from an adapter that is silent; the columns only ever grow.
CREATE VIEW v_heartbeat AS SELECT provider, beat_at FROM heartbeat;
