"""Deletes data by age: rows, monthly partitions of the event log, and the files of artifacts."""
