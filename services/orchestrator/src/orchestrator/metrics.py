"""The names of everything the orchestrator counts."""

from __future__ import annotations

from prometheus_client import Counter

JOBS_ENDED = Counter("segue_jobs_ended_total", "Jobs that ended.", ["status", "kind"])
REROUTED = Counter("segue_jobs_rerouted_total", "Jobs moved on to the next provider.", ["from", "to", "kind"])
