"""The evidence of a run, from clients, bills, events and tables, read once and grouped by job and attempt."""
