"""How ambiguous submits were resolved, from the adapters' metrics."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from chaos.cluster.fleet import Fleet
from contracts.topics import ADAPTERS

COUNTED: Final = "segue_ambiguous_resolved_total"


class ResolutionMetrics:
    """The last metrics of each process; what it counts between the last scrape and its death is lost."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._last: dict[tuple[int, str], float] = {}

    async def scrape(self) -> None:
        """Read the metrics of every adapter that answers."""
        members = [one for one in self._fleet.members if one.service in ADAPTERS and one.running and not one.frozen]
        pages = await asyncio.gather(*(self._page(one.address) for one in members))
        for one, page in zip(members, pages, strict=True):
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    if sample.name == COUNTED:
                        labels = ", ".join(f"{value}" for _, value in sorted(sample.labels.items()))
                        self._last[one.pid, labels] = sample.value

    def total(self) -> Counter[str]:
        """The number of resolutions by provider, rung and verdict."""
        total: Counter[str] = Counter()
        for (_, labels), value in self._last.items():
            total[labels] += int(value)
        return total

    async def _page(self, address: str) -> str:
        try:
            answer = await self._fleet.pages.get(f"{address}/metrics")
        except httpx.HTTPError:
            return ""
        return answer.text if answer.is_success else ""
