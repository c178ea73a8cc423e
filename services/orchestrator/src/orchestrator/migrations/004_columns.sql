-- What is queried is a column. `body` is the orchestrator's own record of a job: nothing in SQL reads it.
ALTER TABLE jobs ADD COLUMN deadline_at timestamptz;
UPDATE jobs SET
    deadline_at = (body ->> 'deadline_at')::timestamptz,
    body = (SELECT jsonb_object_agg(CASE key WHEN 'legs' THEN 'candidates'
                                             WHEN 'at_leg' THEN 'current'
                                             WHEN 'ahead' THEN 'remaining'
                                             WHEN 'unwell' THEN 'unavailable'
                                             WHEN 'untold' THEN 'unreported' ELSE key END, value)
            FROM jsonb_each(body));
ALTER TABLE jobs ALTER COLUMN deadline_at SET NOT NULL;
