"""Verifies that a callback is from the provider, and that it is about the attempt to whose address it was sent."""
