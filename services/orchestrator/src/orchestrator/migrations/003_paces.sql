-- How long runs take at each route, so that the fastest can go first.
ALTER TABLE attempts ADD COLUMN submitted_at timestamptz, ADD COLUMN succeeded_at timestamptz;

CREATE TABLE paces (
    provider   text NOT NULL,
    endpoint   text NOT NULL,
    mean_s     double precision NOT NULL,
    runs       bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, endpoint)
);
