"""Stand-ins for fal.ai and Replicate on one machine: their HTTP APIs, faults on request, and a record of all bills."""
