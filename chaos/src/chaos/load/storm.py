"""A storm: kills, freezes and provider faults at random times, drawn from a seed before it begins."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.evidence.model import Window
from chaos.load.clients import Load
from chaos.load.faults import (
    CRASH_KINDS,
    PROVIDERS,
    TIMED_FAULTS,
    request_fault_rules,
    timed_fault_rules,
)
from chaos.load.requests import Request
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
SUCCEED: Final = 0.9
"""The least share of plain requests that succeed in a storm: without it, a system that refuses everything is clean."""
LEAST_PAUSE_S: Final = 0.2
KILLS_PER_BROKER_KILL: Final = 12
KILLS_PER_DATABASE_CRASH: Final = 12
"""One in this many kills hits a broker, and one in as many PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault that is injected."""

    after: int
    """The number of requests before it: on a slower machine the same storm takes longer."""
    how: How
    target: str
    for_s: float
    """The duration of the fault, in seconds."""

    def __str__(self) -> str:
        return f"after {self.after:5}  {self.how:8}  {self.target}  for {self.for_s:.1f} s"


def plan(rng: random.Random, kills: int, jobs: int) -> list[Injection]:
    """The injections of a storm with so many kills and requests, in order."""
    brokers, crashes = kills // KILLS_PER_BROKER_KILL, kills // KILLS_PER_DATABASE_CRASH
    injections: list[Injection] = []

    def add(count: int, how: How, target: Callable[[], str], shortest_s: float, longest_s: float) -> None:
        for _ in range(count):
            after = int(rng.uniform(0.02, 0.98) * jobs)
            injections.append(Injection(after, how, target(), rng.uniform(shortest_s, longest_s)))

    def service() -> str:
        return str(rng.choices(SERVICES, [WEIGHTS[one] for one in SERVICES])[0])

    add(kills - brokers - crashes, "kill", service, 0.1, 3)
    add(brokers, "broker", lambda: str(rng.randrange(3)), 1, 6)
    add(crashes, "postgres", lambda: "postgres", 0.2, 4)
    add(kills // 6, "term", service, 0.1, 2)
    add(kills // 6, "freeze", service, 1, 12)
    add(max(2, kills // 6), "provider", lambda: f"{rng.choice(PROVIDERS)} {rng.choice(sorted(TIMED_FAULTS))}", 3, 9)
    return sorted(injections, key=lambda injection: injection.after)


@dataclass(slots=True)
class Storm:
    """The injections while they are carried out, and their results."""

    fleet: Fleet
    injections: list[Injection]
    windows: list[Window] = field(default_factory=list)
    recoveries: list[tuple[float, str]] = field(default_factory=list)
    """Seconds from a fault until the process was ready again, and its name."""
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _active: dict[str, str] = field(default_factory=dict)
    _broker: asyncio.Lock = field(default_factory=asyncio.Lock)
    _postgres: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, load: Load) -> None:
        """Carry out all injections at their times, and wait until the last one has ended."""
        async with asyncio.TaskGroup() as tasks:
            for injection in self.injections:
                await load.wait_for_requests(injection.after)
                tasks.create_task(self._inject(injection))

    async def _inject(self, injection: Injection) -> None:
        began = time.time()
        match injection.how:
            case "kill" | "term" | "freeze":
                replica = await self._running_replica(injection)
                await {"kill": self._kill, "term": self._term, "freeze": self._freeze}[injection.how](
                    replica, injection.for_s
                )
            case "broker":
                await self._down_broker(int(injection.target), injection.for_s)
                self._unsettled(injection, began)
            case "postgres":
                await self._crash_postgres(injection.for_s)
                self._unsettled(injection, began)
            case "provider":
                provider, _, name = injection.target.partition(" ")
                await self._inject_provider_fault(provider, name, injection.for_s)
                fault = TIMED_FAULTS[name]
                kinds = frozenset(map(str, fault.explains))
                window = Window(str(injection.target), began, time.time(), kinds, provider, refuses=fault.refuses)
                self.windows.append(replace(window, hides_results=fault.hides_results))

    def _unsettled(self, injection: Injection, began: float) -> None:
        """Note a fault of what all services depend on. The fleet itself notes those of single processes."""
        kinds, services = frozenset(map(str, CRASH_KINDS)), frozenset(map(str, SERVICES))
        self.windows.append(Window(f"{injection.how} {injection.target}", began, time.time(), kinds, ends=services))

    async def _running_replica(self, injection: Injection) -> Replica:
        """A running replica of the service without another fault; waits until there is one."""
        while True:
            members = [one for one in self.fleet.members if one.service == injection.target]
            fit = [one for one in members if one.running and one.wanted and not one.frozen]
            if fit:
                return fit[injection.after % len(fit)]
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
            await self.fleet.brokers.restore()
            self.recoveries.append((time.monotonic() - began, f"broker-{n + 1}"))

    async def _crash_postgres(self, for_s: float) -> None:
        async with self._postgres:
            began = time.monotonic()
            await self.fleet.postgres.stop("immediate")
            self.kills["postgres"] += 1
            await asyncio.sleep(for_s)
            await self.fleet.postgres.start()
            self.recoveries.append((time.monotonic() - began, "postgres"))

    async def _inject_provider_fault(self, provider: str, name: str, for_s: float) -> None:
        self.faults[f"{provider} {name}"] += 1
        self._active[provider] = name
        await self._put_rules()
        await asyncio.sleep(for_s)
        if self._active.get(provider) == name:
            del self._active[provider]
        await self._put_rules()

    async def _put_rules(self) -> None:
        rules = [*timed_fault_rules(self._active), *request_fault_rules()]
        (await self.fleet.sandbox.put("/faults", json=rules)).raise_for_status()


def share_of_plain(requests: Iterable[Request]) -> float:
    """The share of success among accepted requests without a fault word, a short deadline or a cancel; 1 of none."""
    plain = [
        one
        for one in requests
        if one.job_id is not None
        and not one.spec.faults
        and not one.spec.cancelled
        and "deadline_s" not in one.spec.fields
    ]
    return sum(one.ended == "succeeded" for one in plain) / len(plain) if plain else 1.0


async def run_storm(storm: Storm, load: Load, rate: float, jobs: int) -> None:
    """Send `jobs` requests during a storm, and wait until both have ended."""
    running = asyncio.create_task(storm.run(load))
    try:
        async with load.running(rate, jobs):
            await load.wait_for_requests(jobs)
        await running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
