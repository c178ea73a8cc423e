"""Rows 33 to 36: replicas are killed or restarted, and the others go on.

How long a partition stands still is how long its records wait for their consumer, from the times in the event log. In
rows 33 to 35 Kafka's session is so long that it is told from a slow machine: whoever waits for the session of a replica
that has gone waits for most of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.load.clients import Load
from chaos.load.requests import RequestSpec
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import RATE, Row
from chaos.rows.probes import BillLog, caught_up, fetch
from contracts.failures import FailureKind
from contracts.topics import PARTITIONS, SERVICES, ServiceName

MEASURED: Final[tuple[ServiceName, ...]] = ("orchestrator", "fal-adapter", "log-sink")
CONSUMERS: Final[tuple[ServiceName, ...]] = tuple(service for service in SERVICES if service != "gateway")
PLAIN: Final = RequestSpec("a warm pad", {"providers": ["fal", "replicate"], "deadline_s": 270})
SESSION: Final = "SEGUE_KAFKA_SESSION_TIMEOUT_S"
LONG_SESSION_S: Final = 60
SHORT_SESSION_S: Final = 20
QUIET_S: Final = 5.0
"""Seconds of load before a fault."""
WATCHED_S: Final = 5.0
"""Seconds of load after a replica is ready again."""
KILL_EVERY_S: Final = 4.0
SUCCEED: Final = 0.99

_BETWEEN: Final = """
SELECT a.kafka_partition AS partition, extract(epoch FROM a.occurred_at)::float8 AS since,
    extract(epoch FROM b.occurred_at)::float8 AS until
FROM log_sink.events a JOIN log_sink.events b USING (job_id)
WHERE a.job_id = ANY($1) AND a.type = $2 AND b.type = $3 AND coalesce(b.n, 1) = 1
"""
_STORED: Final = """
SELECT kafka_partition AS partition, extract(epoch FROM occurred_at)::float8 AS since,
    extract(epoch FROM stored_at)::float8 AS until
FROM log_sink.events WHERE job_id = ANY($1)
"""
_STEPS: Final[dict[ServiceName, tuple[str, str]]] = {
    "orchestrator": ("segue.job.requested.v1", "segue.job.accepted.v1"),
    "fal-adapter": ("segue.job.accepted.v1", "segue.attempt.submitting.v1"),
}
"""The event that a service waits for, and the one by which it answers."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a record waited for its consumer; Unix times."""

    partition: int
    since: float
    until: float


def longest(waits: Iterable[Wait], began: float, ended: float) -> list[float]:
    """The longest wait of each partition in seconds, longest first, of those that overlap with a period."""
    found: defaultdict[int, float] = defaultdict(float)
    for one in waits:
        if one.until >= began and one.since <= ended:
            found[one.partition] = max(found[one.partition], one.until - one.since)
    return sorted(found.values(), reverse=True)


@dataclass(frozen=True, slots=True)
class Pause:
    """What a killed replica cost its service; seconds."""

    before_s: float
    """The longest wait in any partition before the kill."""
    own_s: float
    """The longest wait in that half of the partitions that waited longer, which are those of the killed replica."""
    others_s: float
    """The longest wait in the other half."""
    started_s: float
    """From the kill until the replica was started again; 0: it was not."""
    ready_s: float
    """From the kill until it was ready."""


async def waits(fleet: Fleet, load: Load, service: ServiceName) -> list[Wait]:
    """How long each record of the load's jobs waited for a service. Waits until every record is read."""
    open_ = await load.drain(120)
    assert not open_, f"{len(open_)} jobs are open"
    await caught_up(fleet, 120)
    job_ids = [one.job_id for one in load.requests if one.job_id is not None]
    if service in _STEPS:
        rows = await fetch(fleet, _BETWEEN, job_ids, *_STEPS[service])
    else:
        rows = await fetch(fleet, _STORED, job_ids)
    return [Wait(row["partition"], row["since"], row["until"]) for row in rows]


async def killed(
    fleet: Fleet,
    load: Load,
    service: ServiceName,
    rate: float,
    settings: Mapping[str, str],
    *,
    again_after_s: float | None,
) -> Pause:
    """Kill one replica of a service under load, and start it again after that time; None: never."""
    victim = fleet.replicas(service)[0]
    quiet_from = time.time()
    async with load.running(rate, spec=PLAIN):
        await asyncio.sleep(QUIET_S)
        began = time.time()
        await victim.kill()
        started = ready = began
        if again_after_s is None:
            await asyncio.sleep(2 * float(settings[SESSION]))
        else:
            await asyncio.sleep(again_after_s)
            await victim.start(**settings)
            started = time.time()
            await victim.ready()
            ready = time.time()
        await asyncio.sleep(WATCHED_S)
        ended = time.time()
    found = await waits(fleet, load, service)
    before = longest((one for one in found if one.until < began), quiet_from, began)
    after = longest(found, began, ended)
    assert len(after) == PARTITIONS, f"records in {len(after)} of {PARTITIONS} partitions only"
    return Pause(max(before, default=0.0), after[0], after[PARTITIONS // 2], started - began, ready - began)


async def rolled(
    fleet: Fleet, load: Load, order: Sequence[Replica], rate: float, settings: Mapping[str, str]
) -> dict[ServiceName, float]:
    """Stop and start one replica after the other under load; returns the longest wait for each measured service."""
    began = time.time()
    async with load.running(rate, spec=PLAIN):
        await asyncio.sleep(QUIET_S)
        for replica in order:
            await replica.term()
            await replica.start(**settings)
            await replica.ready()
        await asyncio.sleep(WATCHED_S)
        ended = time.time()
    return {service: longest(await waits(fleet, load, service), began, ended)[0] for service in MEASURED}


async def kills(fleet: Fleet, load: Load, rate: float, rng: random.Random, seconds: float) -> tuple[int, float]:
    """Kill a replica every four seconds, and start it again at once; returns the kills, and the share of success.

    Only replicas that are ready are killed, so that a slow machine has them up as well.
    """
    times, until = 0, time.monotonic() + seconds
    async with load.running(rate, spec=PLAIN), asyncio.TaskGroup() as starts:
        while time.monotonic() < until:
            next_at = time.monotonic() + KILL_EVERY_S
            ready = [one for one in fleet.members if one.running and await one.is_ready()]
            if ready:
                victim = rng.choice(ready)
                await victim.kill()
                starts.create_task(victim.start())
                times += 1
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
    await load.drain(300)
    accepted = [one for one in load.requests if one.job_id is not None]
    return times, sum(one.ended == "succeeded" for one in accepted) / max(1, len(accepted))


@asynccontextmanager
async def two_of_each(fleet: Fleet) -> AsyncIterator[None]:
    """Run a second log sink for the length of the block."""
    sink = fleet.add("log-sink")
    await sink.start()
    await sink.ready()
    try:
        yield
    finally:
        await fleet.remove(sink)


@asynccontextmanager
async def session_of(fleet: Fleet, services: Iterable[ServiceName], seconds: int) -> AsyncIterator[dict[str, str]]:
    """Run the replicas of some services with that session timeout; yields the setting. They are stopped at the end."""
    replicas = [one for service in services for one in fleet.replicas(service)]
    settings = {SESSION: str(seconds)}
    await asyncio.gather(*(one.term() for one in replicas))
    try:
        await asyncio.gather(*(one.start(**settings) for one in replicas))
        await asyncio.gather(*(one.ready() for one in replicas))
        yield settings
    finally:
        await asyncio.gather(*(one.term() for one in replicas))


async def _restarted(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    said, bill_log, most_s = [], BillLog(fleet), LONG_SESSION_S / 3
    async with two_of_each(fleet), session_of(fleet, MEASURED, LONG_SESSION_S) as settings:
        for service in MEASURED:
            found = await killed(fleet, load, service, RATE, settings, again_after_s=1)
            assert found.others_s < most_s, f"{service}: the other's partitions stood still for {found.others_s:.1f} s"
            after_s = found.own_s - found.ready_s
            assert after_s < most_s, f"{service}: its partitions stood still for {after_s:.1f} s after it was ready"
            said.append(
                f"{service}: ready {found.ready_s:.1f} s after the kill; its partitions waited {found.own_s:.1f} s,"
                f" the other's {found.others_s:.1f} s; {found.before_s:.1f} s before it"
            )
    return [*said, await _paid(fleet, bill_log)]


async def _moved(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    service, bill_log = rng.choice(("orchestrator", "fal-adapter")), BillLog(fleet)
    async with session_of(fleet, [service], SHORT_SESSION_S) as settings:
        found = await killed(fleet, load, service, RATE, settings, again_after_s=None)
    assert found.own_s < 2 * SHORT_SESSION_S, f"its partitions moved after {found.own_s:.1f} s only"
    assert found.others_s < SHORT_SESSION_S / 2, f"the other's partitions stood still for {found.others_s:.1f} s"
    return [
        f"{service}: its partitions waited {found.own_s:.1f} s, the other's {found.others_s:.1f} s",
        await _paid(fleet, bill_log),
    ]


async def _rolled(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log, most_s = BillLog(fleet), LONG_SESSION_S / 3
    async with two_of_each(fleet), session_of(fleet, CONSUMERS, LONG_SESSION_S) as settings:
        order = [one for service in CONSUMERS for one in fleet.replicas(service)]
        found = await rolled(fleet, load, order, RATE, settings)
    slow = {service: seconds for service, seconds in found.items() if seconds > most_s}
    assert not slow, f"partitions stood still: {slow}"
    waited = ", ".join(f"{service} {seconds:.1f} s" for service, seconds in found.items())
    return [f"{len(order)} replicas, one after the other; longest waits: {waited}", await _paid(fleet, bill_log)]


async def _kills(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log = BillLog(fleet)
    async with two_of_each(fleet), fleet.supervised():
        times, share = await kills(fleet, load, RATE, rng, fleet.scale.killing_s)
    assert share >= SUCCEED, f"{share:.1%} of {len(load.requests)} jobs succeeded"
    return [
        f"{times} kills in {fleet.scale.killing_s:.0f} s; {share:.1%} of {len(load.requests)} jobs succeeded",
        await _paid(fleet, bill_log),
    ]


async def _paid(fleet: Fleet, bill_log: BillLog) -> str:
    posted, taken = await all_bound(fleet, bill_log)
    return f"{taken} runs of {posted} attempts POSTed, none accepted twice"


ROWS = {
    row.number: row
    for row in (
        Row(33, "A replica killed and restarted", "nobody waits for the session of the dead one", _restarted),
        Row(34, "A replica killed for good", "its partitions move after the session, the others go on", _moved),
        Row(35, "A rolling restart of all consumers", "nobody waits for a session", _rolled, longer_s=300),
        Row(
            36,
            "A kill every four seconds",
            "99 % of the jobs succeed",
            _kills,
            explains=frozenset({str(FailureKind.EXPIRED)}),
        ),
    )
}
