"""How long partitions stand still when replicas are killed or restarted, each against its bound.

Two replicas of each consumer, three brokers of Apache Kafka, and the sandbox as the providers, run as chaos runs them.
`python -m bench.extended.pauses [SECONDS]` measures this alone, with kills for so many seconds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.cluster.fleet import fleet_on
from chaos.load.clients import Load
from chaos.rows.services.pauses import CONSUMERS, KILL_EVERY_S, MEASURED, SESSION, killed, kills, rolled, two_of_each
from chassis.settings.service import ServiceSettings

RATE: Final = 18.0
"""Jobs per second, three in each partition."""
KILLS_RATE: Final = 6.0
KILLS_S: Final = 600.0
DEFAULT_SESSION_S: Final[float] = ServiceSettings.model_fields["kafka_session_timeout_s"].default


@dataclass(frozen=True, slots=True)
class Bounded:
    """A measured value and its bound."""

    what: str
    value: float
    bound: float
    unit: str = "s"
    at_least: bool = False
    """Whether the bound is the least value, not the greatest."""

    @property
    def held(self) -> bool:
        """Whether the value is within its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


async def pauses(kills_s: float, tell: Callable[[str], None]) -> list[Bounded]:
    """Measure all; kills go on for `kills_s` seconds. Raises ChildFailed or AssertionError if a process fails."""
    found: list[Bounded] = []
    settings = {SESSION: f"{DEFAULT_SESSION_S:g}"}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segue-bench-pauses-")))
        tell("start three brokers and two replicas of each consumer")
        fleet = await stack.enter_async_context(fleet_on(folder / "fleet", settings))
        await stack.enter_async_context(two_of_each(fleet))

        def load(name: str) -> Load:
            return Load(fleet, name, random.Random(name), folder)

        for service in MEASURED:
            tell(f"{service}: one replica is killed and started again")
            async with load(f"restarted-{service}") as clients:
                pause = await killed(fleet, clients, service, RATE, settings, again_after_s=1)
            after_s = max(0.0, pause.own_s - pause.started_s)
            found += [
                Bounded(f"{service} killed and started again: its partitions, after the start", after_s, 3),
                Bounded(f"{service} killed and started again: the other's partitions", pause.others_s, 1),
            ]
            tell(f"  ready {pause.ready_s:.1f} s after the kill: {pause}")
        for service in MEASURED:
            tell(f"{service}: one replica is killed for good")
            async with load(f"killed-{service}") as clients:
                pause = await killed(fleet, clients, service, RATE, settings, again_after_s=None)
            found += [
                Bounded(f"{service} killed for good: its partitions", pause.own_s, 10),
                Bounded(f"{service} killed for good: the other's partitions", pause.others_s, 2),
            ]
            tell(f"  {pause}")
            await fleet.restore()
        tell("a rolling restart")
        async with load("rolling") as clients:
            order = [one for service in CONSUMERS for one in fleet.replicas(service)]
            waited = await rolled(fleet, clients, order, RATE, settings)
        found += [Bounded(f"rolling restart: {service}", seconds, 3) for service, seconds in waited.items()]
        tell(f"a kill every {KILL_EVERY_S:g} s for {kills_s:g} s")
        async with load("kills") as clients, fleet.supervised():
            times, share = await kills(fleet, clients, KILLS_RATE, random.Random("kills"), kills_s)
        what = f"{times} kills in {kills_s:g} s: jobs that succeed within 270 s"
        found.append(Bounded(what, 100 * share, 99, "%", at_least=True))
    return found


async def main() -> None:
    """Measure with the number of seconds that is given, or KILLS_S, and print the results."""
    for one in await pauses(float(sys.argv[1]) if sys.argv[1:] else KILLS_S, lambda line: print(line, flush=True)):
        print(f"{'held' if one.held else 'MISSED':6} {one.what}: {one.value:.2f} {one.unit}, bound {one.bound:g}")


if __name__ == "__main__":
    asyncio.run(main())
