"""How events become rows: those of the log of all events, and the SQL that merges what the read model reports."""
