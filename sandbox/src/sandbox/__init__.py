"""fal.ai and Replicate for a laptop: their HTTP APIs, their faults, and a book of bills."""
