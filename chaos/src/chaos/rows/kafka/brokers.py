"""Rows 12 to 15: brokers are killed, restarted or frozen, too few are in sync, or none is left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Final

from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.probes import BillLog, MetricDeltas, count, wait_for

SOME: Final = 10
"""Requests that have to be accepted while a fault lasts, before it counts as survived."""
UNAVAILABLE: Final = 503
OUTBOXES: Final = """
SELECT (SELECT count(*) FROM orchestrator.outbox) + (SELECT count(*) FROM fal_adapter.outbox)
     + (SELECT count(*) FROM replicate_adapter.outbox)
"""
POLLED: Final = """
SELECT count(*) FROM (
    SELECT attempt_id FROM fal_adapter.attempts WHERE attempt_id = ANY($1) AND state = 'succeeded'
    UNION ALL SELECT attempt_id FROM replicate_adapter.attempts WHERE attempt_id = ANY($1) AND state = 'succeeded'
) AS done
"""


async def more_accepted(load: Load, when: str, within_s: float = 60) -> None:
    """Wait until some more requests are accepted. Raises AssertionError."""
    before = load.accepted

    async def enough() -> bool:
        return load.accepted >= before + SOME

    await wait_for(f"{SOME} requests are accepted {when}", enough, within_s)


async def _leaders(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    victim = rng.choice(list(fleet.brokers))
    async with load.running(RATE):
        await load.wait_for_requests(SOME)
        await victim.kill()
        await more_accepted(load, f"without {victim.name}")
        await fleet.brokers.restore()
        for one in fleet.brokers:
            await one.term()
            await more_accepted(load, f"while {one.name} restarts")
            await fleet.brokers.restore()
    assert not await load.drain(90)
    before.assert_same_processes()
    paid = await before.unharmed()
    return [
        f"{victim.name} killed, then all {len(fleet.brokers)} restarted one after the other; no service ended",
        f"{load.accepted} of {len(load.requests)} requests accepted, no client gave up; {paid}",
    ]


async def _too_few_in_sync(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    down = rng.sample(list(fleet.brokers), 2)
    async with load.running(RATE):
        await load.wait_for_requests(SOME)
        asked = len(load.answers)
        for one in down:
            await one.kill()

        async def refused() -> bool:
            return any(answer.status == UNAVAILABLE for answer in load.answers[asked:])

        await wait_for("a request is answered 503", refused)
        await asyncio.sleep(fleet.scale.brokers_away_s)  # The outage itself is the fault.
        said = Counter(answer.status for answer in load.answers[asked:] if answer.call == "post")
        await fleet.brokers.restore()
        await more_accepted(load, "once all brokers are back", 120)
    assert not await load.drain(120)
    paid = await before.unharmed()
    return [
        (
            f"{' and '.join(one.name for one in down)} down for {fleet.scale.brokers_away_s:.0f} s and more: "
            f"POSTs were answered {dict(said)}"
        ),
        f"then the same requests were accepted: {load.accepted} of {len(load.requests)}; {paid}",
    ]


async def _none_left(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    counts = await MetricDeltas.of(fleet, "orchestrator", "fal-adapter", "replicate-adapter")
    # A process whose producer cannot go on ends; whoever runs it starts it again.
    async with fleet.supervised():
        said = await _away_and_back(fleet, load, before.bill_log)
        assert not await load.drain(180)
    ended = sum(before.pids.get(name) != pid for name, pid in fleet.pids.items())
    published = int(await counts.since("segue_outbox_published_total"))
    paid = await before.unharmed()
    return [
        said,
        (
            f"{ended} processes ended and were started again; {published} and more messages published; all "
            f"{len(load.requests)} requests ended; {paid}"
        ),
    ]


async def _away_and_back(fleet: Fleet, load: Load, bill_log: BillLog) -> str:
    """Take all of Kafka away under load, and bring it back; returns what was seen meanwhile."""
    # Runs that end while there is no Kafka, of which no callback can tell either.
    await fleet.faults([{"prompt_contains": "ends meanwhile", "action": {"run_s": 4, "webhook": ["never"]}}])
    async with load.running(RATE):
        slow = [
            await load.submit("ends meanwhile", providers=list(order), deadline_s=600)
            for order in (("fal", "replicate"), ("replicate", "fal"))
            for _ in (1, 2)
        ]

        async def posted() -> bool:
            return all(bill_log.of_job(one.job_id) for one in slow)

        await wait_for("runs are under way", posted)
        for one in fleet.brokers:
            await one.kill()
        attempts = [f"{one.job_id}.1" for one in slow]

        async def collected() -> bool:
            return await count(fleet, POLLED, attempts) == len(attempts)

        await wait_for("the adapters have polled and collected the runs without Kafka", collected, 60)
        waiting = await count(fleet, OUTBOXES)
        assert waiting, "nothing waits in an outbox"
        await asyncio.sleep(fleet.scale.brokers_away_s)  # The outage itself is the fault.
        await fleet.brokers.restore()
        await more_accepted(load, "once Kafka is back", 120)
    return (
        f"all brokers down for {fleet.scale.brokers_away_s:.0f} s and more; {len(slow)} runs that ended meanwhile were "
        f"collected, with {waiting} messages in the outboxes"
    )


async def _paused(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    victim = rng.choice(list(fleet.brokers))
    async with load.running(RATE):
        await load.wait_for_requests(SOME)
        victim.stop()
        await asyncio.sleep(fleet.scale.brokers_away_s)  # The standstill itself is the fault.
        await more_accepted(load, f"while {victim.name} stands still")
        victim.cont()
        await fleet.brokers.restore()
        await more_accepted(load, f"after {victim.name} has woken")
    assert not await load.drain(90)
    paid = await before.unharmed()
    return [
        f"{victim.name} stood still for {fleet.scale.brokers_away_s:.0f} s and more; requests were accepted meanwhile",
        f"all {len(load.requests)} requests ended; {paid}",
    ]


ROWS = {
    row.number: row
    for row in (
        Row(
            12,
            "A broker killed; all brokers restarted in turn",
            "requests go on; nothing acknowledged is lost",
            _leaders,
            unsettles=True,
        ),
        Row(
            13,
            "Two of three brokers down",
            "503; then the same requests are accepted",
            _too_few_in_sync,
            unsettles=True,
            without_kafka=True,
        ),
        Row(
            14,
            "All of Kafka down",
            "runs are collected, outboxes wait and are published",
            _none_left,
            unsettles=True,
            without_kafka=True,
        ),
        Row(15, "A broker frozen", "requests go on; nothing acknowledged is lost", _paused, unsettles=True),
    )
}
