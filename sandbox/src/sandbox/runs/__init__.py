"""Processing of accepted requests, the same for both providers: faults, slots, progress, bills, webhooks."""
