"""The Replicate implementation of the provider port."""
