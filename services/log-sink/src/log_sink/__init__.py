"""Persists every event and keeps the current state for querying."""
