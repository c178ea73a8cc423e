"""Checks of the guarantees against the evidence. Pure."""
