"""The fal.ai implementation of the provider port."""
