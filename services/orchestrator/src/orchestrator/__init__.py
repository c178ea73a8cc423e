"""Sends each job to a provider, and on failure to the next."""
