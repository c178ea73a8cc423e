"""How long the rows of the fault matrix go on, and how much is under way in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from adapter_kit.attempt.model import LEASE_S


@dataclass(frozen=True, slots=True)
class Scale:
    """Times are in seconds."""

    frozen_s: float
    """How long processes stand still (rows 9 and 10): longer than a lease and than Kafka's session."""
    rebalancing_s: float
    """How long replicas come and go (row 11)."""
    runs: int
    """How many runs are under way when their adapters die (row 5)."""
    queue_s: float
    """How long each of them waits at its provider, so that so many are there together."""
    database_away_s: float
    """How long PostgreSQL is away (row 19)."""
    provider_down_s: float
    """How long a provider is down at least (row 25)."""

    @property
    def row_within_s(self) -> float:
        """How long any row may take."""
        return 240 + max(self.frozen_s, self.rebalancing_s, self.database_away_s, self.provider_down_s)


SHORT: Final = Scale(
    frozen_s=LEASE_S + 5, rebalancing_s=30, runs=100, queue_s=10, database_away_s=12, provider_down_s=0
)
"""Long enough for everything to happen once."""
FULL: Final = Scale(frozen_s=60, rebalancing_s=120, runs=500, queue_s=30, database_away_s=120, provider_down_s=600)
"""As the matrix has it."""
