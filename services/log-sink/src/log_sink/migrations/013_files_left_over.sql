-- The files of rows that are marked as expired and could not be deleted are asked for by themselves, every hour.
CREATE INDEX artifacts_left_over ON artifacts (expired_at, attempt_id, name)
    WHERE removed_at IS NULL AND expired_at IS NOT NULL;
