"""A seeded storm: what is killed, frozen, starved and lied to, and when, drawn before it begins."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.evidence.model import Window
from chaos.load.clients import Load
from chaos.load.faults import BY_HARM, FOR_A_WHILE, PROVIDERS, by_request, for_a_while
from contracts.topics import SERVICES, ServiceName

How = Literal["kill", "term", "freeze", "broker", "postgres", "provider"]
WEIGHTS: Final[dict[ServiceName, float]] = {
    "gateway": 2,
    "orchestrator": 4,
    "fal-adapter": 4,
    "replicate-adapter": 4,
    "log-sink": 2,
}
RECOVERED_WITHIN_S: Final = 60.0
LEAST_PAUSE_S: Final = 0.2
KILLS_A_BROKER: Final = 12
KILLS_A_CRASH: Final = 12
"""One in so many kills hits a broker, and one in so many Postgres."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that is done to the system."""

    after: int
    """How many requests were made before it: a slower machine has the same storm, only longer."""
    how: How
    target: str
    for_s: float
    """How long it is down, frozen or unwell."""

    def __str__(self) -> str:
        return f"after {self.after:5}  {self.how:8}  {self.target}  for {self.for_s:.1f} s"


def plan(rng: random.Random, kills: int, jobs: int) -> list[Act]:
    """What happens in a storm of so many kills and requests, in order."""
    brokers, crashes = kills // KILLS_A_BROKER, kills // KILLS_A_CRASH
    acts: list[Act] = []

    def add(count: int, how: How, target: Callable[[], str], shortest_s: float, longest_s: float) -> None:
        for _ in range(count):
            after = int(rng.uniform(0.02, 0.98) * jobs)
            acts.append(Act(after, how, target(), rng.uniform(shortest_s, longest_s)))

    def service() -> str:
        return str(rng.choices(SERVICES, [WEIGHTS[one] for one in SERVICES])[0])

    add(kills - brokers - crashes, "kill", service, 0.1, 3)
    add(brokers, "broker", lambda: str(rng.randrange(3)), 1, 6)
    add(crashes, "postgres", lambda: "postgres", 0.2, 4)
    add(kills // 6, "term", service, 0.1, 2)
    add(kills // 6, "freeze", service, 1, 12)
    add(max(2, kills // 6), "provider", lambda: f"{rng.choice(PROVIDERS)} {rng.choice(sorted(FOR_A_WHILE))}", 3, 9)
    return sorted(acts, key=lambda act: act.after)


@dataclass(slots=True)
class Storm:
    """A plan while it is carried out, and what came of it."""

    fleet: Fleet
    acts: list[Act]
    windows: list[Window] = field(default_factory=list)
    recoveries: list[tuple[float, str]] = field(default_factory=list)
    """Seconds from a kill until the same replica was ready again, and which."""
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _whiles: dict[str, str] = field(default_factory=dict)
    _broker: asyncio.Lock = field(default_factory=asyncio.Lock)
    _postgres: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, load: Load) -> None:
        """Carry out all acts, each at its time, and wait until the last of them is made good."""
        async with asyncio.TaskGroup() as tasks:
            for act in self.acts:
                await load.all_asked(act.after)
                tasks.create_task(self._do(act))

    async def _do(self, act: Act) -> None:
        began = time.time()
        kinds, provider = BY_HARM, None
        match act.how:
            case "kill" | "term" | "freeze":
                replica = await self._victim(act)
                await {"kill": self._kill, "term": self._term, "freeze": self._freeze}[act.how](replica, act.for_s)
            case "broker":
                await self._down_broker(int(act.target), act.for_s)
            case "postgres":
                await self._crash_postgres(act.for_s)
            case "provider":
                provider, _, name = act.target.partition(" ")
                kinds = FOR_A_WHILE[name].explains
                await self._make_ill(provider, name, act.for_s)
        named = frozenset(str(kind) for kind in kinds)
        self.windows.append(Window(f"{act.how} {act.target}", began, time.time(), named, provider))

    async def _victim(self, act: Act) -> Replica:
        """A replica of the service that runs and is left alone so far, as soon as there is one."""
        while True:
            members = [one for one in self.fleet.members if one.service == act.target]
            fit = [one for one in members if one.running and one.wanted and not one.frozen]
            if fit:
                return fit[act.after % len(fit)]
            await asyncio.sleep(LEAST_PAUSE_S)

    async def _kill(self, replica: Replica, for_s: float) -> None:
        await replica.kill()
        self.kills[replica.service] += 1
        await self._again(replica, for_s)

    async def _term(self, replica: Replica, for_s: float) -> None:
        await replica.term()
        await self._again(replica, for_s)

    async def _again(self, replica: Replica, for_s: float) -> None:
        began = time.monotonic()
        await asyncio.sleep(for_s)
        await replica.start()
        while time.monotonic() < began + RECOVERED_WITHIN_S:
            if not replica.wanted or replica.frozen:
                return  # It was hit again before it had recovered.
            if await replica.is_ready():
                self.recoveries.append((time.monotonic() - began, replica.name))
                return
            await asyncio.sleep(LEAST_PAUSE_S)

    async def _freeze(self, replica: Replica, for_s: float) -> None:
        replica.stop()
        await asyncio.sleep(for_s)
        replica.cont()

    async def _down_broker(self, n: int, for_s: float) -> None:
        async with self._broker:
            began = time.monotonic()
            await self.fleet.brokers[n].kill()
            self.kills["broker"] += 1
            await asyncio.sleep(for_s)
            await self.fleet.brokers[n].start()
            await self.fleet.brokers.whole()
            self.recoveries.append((time.monotonic() - began, f"broker-{n + 1}"))

    async def _crash_postgres(self, for_s: float) -> None:
        async with self._postgres:
            began = time.monotonic()
            await self.fleet.postgres.stop("immediate")
            self.kills["postgres"] += 1
            await asyncio.sleep(for_s)
            await self.fleet.postgres.start()
            self.recoveries.append((time.monotonic() - began, "postgres"))

    async def _make_ill(self, provider: str, name: str, for_s: float) -> None:
        self.faults[f"{provider} {name}"] += 1
        self._whiles[provider] = name
        await self._put_rules()
        await asyncio.sleep(for_s)
        if self._whiles.get(provider) == name:
            del self._whiles[provider]
        await self._put_rules()

    async def _put_rules(self) -> None:
        rules = [*for_a_while(self._whiles), *by_request()]
        (await self.fleet.sandbox.put("/faults", json=rules)).raise_for_status()


async def rage(storm: Storm, load: Load, rate: float, jobs: int) -> None:
    """Ask for so many jobs in a storm, and wait until both are over."""
    running = asyncio.create_task(storm.run(load))
    try:
        async with load.running(rate, jobs):
            await load.all_asked(jobs)
        await running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
