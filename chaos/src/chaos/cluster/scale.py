"""The duration and size of the faults in the rows of the fault matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from adapter_kit.attempt.model import LEASE_S
from adapter_kit.breaker.policy import OPEN_AT_MOST_S, OPEN_S, PROBE_LEASE_S

RUN_LIMIT_S: Final = 6
"""Time limit of a run in seconds. It is part of the grace before a missing run counts as never accepted."""
START_LIMIT_S: Final = 6
"""Time limit for the start of a run, in seconds."""
BREAKER_OPEN_S: Final = 0.2
"""How long a circuit breaker is open at first, in seconds."""
BREAKER_SHUT_S: Final = 1.25 * BREAKER_OPEN_S * OPEN_AT_MOST_S / OPEN_S + PROBE_LEASE_S + START_LIMIT_S + RUN_LIMIT_S
"""How long a breaker turns attempts away after one failure, at most and in seconds: its longest opening with jitter,
and the lease of the probe that follows."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Durations in seconds, and the number of runs."""

    frozen_s: float
    """How long processes are frozen (rows 9 and 10): longer than a lease and than Kafka's session."""
    rebalancing_s: float
    """How long replicas are added and removed (row 11)."""
    killing_s: float
    """How long a replica is killed every four seconds (row 36)."""
    runs: int
    """The number of runs in progress when their adapters are killed (row 5)."""
    queue_s: float
    """How long each of them is queued at its provider, so that all are there at the same time."""
    database_away_s: float
    """How long PostgreSQL is down (row 19)."""
    provider_down_s: float
    """The minimum time for which a provider is down (row 25)."""
    brokers_away_s: float
    """How long too many brokers or all of them are down, paused or out of reach (rows 13 to 16)."""
    locked_s: float
    """How long tables are locked, connections taken, or the database is read-only (rows 20 and 40)."""
    flood: int
    """The number of requests that a flood sends at once (row 30)."""

    @property
    def row_within_s(self) -> float:
        """The time limit of a row, in seconds."""
        return 240 + max(
            self.frozen_s,
            self.rebalancing_s,
            self.killing_s,
            self.database_away_s,
            self.provider_down_s,
            2 * self.brokers_away_s,
            3 * self.locked_s,
        )


SHORT: Final = Scale(
    frozen_s=LEASE_S + 5,
    rebalancing_s=30,
    killing_s=60,
    runs=100,
    queue_s=10,
    database_away_s=12,
    provider_down_s=0,
    brokers_away_s=20,
    locked_s=15,
    flood=200,
)
"""Long enough for each fault to have its effect once."""
FULL: Final = Scale(
    frozen_s=60,
    rebalancing_s=120,
    killing_s=600,
    runs=500,
    queue_s=30,
    database_away_s=120,
    provider_down_s=600,
    brokers_away_s=300,
    locked_s=60,
    flood=1000,
)
"""The values of the fault matrix."""
