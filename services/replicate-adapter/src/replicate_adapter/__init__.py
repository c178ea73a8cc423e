"""Replicate behind the provider port."""
