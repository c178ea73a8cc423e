-- How attempts ended lately is asked as often as somebody watches.
CREATE INDEX attempts_newest_end ON attempts (finished_at) WHERE finished_at IS NOT NULL;
