"""What becomes of an accepted request, the same way for both providers: faults, places, progress, bills, webhooks."""
