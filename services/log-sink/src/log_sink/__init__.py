"""Stores every event, and maintains the current state for queries."""
