"""fal's HTTP APIs."""
