"""How events become rows: the log of every event, and the current state of jobs, attempts and tracks."""
