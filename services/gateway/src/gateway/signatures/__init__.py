"""Whether a webhook is from the provider, and about the attempt at whose address it came."""
