-- By when the attempt's own run is in the listing, if a search found its run: that may be the run of another attempt with
-- the same input. Kept by a replica of an earlier release, which does not know it.
ALTER TABLE attempts ADD COLUMN own_listed_by timestamptz;
