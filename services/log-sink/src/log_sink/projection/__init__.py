"""The rows of the event log, and the SQL that merges the read model's reports into the tables of current state."""
