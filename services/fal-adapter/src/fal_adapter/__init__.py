"""fal.ai behind the provider port."""
