"""Rows 9 to 11: processes are frozen and continue after others have taken over; groups rebalance all the time."""

from __future__ import annotations

import asyncio
import random
from time import monotonic, time
from typing import Final

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.load.clients import Load
from chaos.rows.ambiguous import Ambiguous, all_bound, describe, resolved
from chaos.rows.base import GAPS, RATE, TWICE, Row
from chaos.rows.probes import BillLog, MetricDeltas, count, fetch, now, wait_for, wait_until_frozen
from chassis.runtime.watchdog import BLOCKED_LOOP_LIMIT_S
from contracts.topics import ServiceName

JOINING: Final[tuple[ServiceName, ...]] = ("orchestrator", "fal-adapter", "replicate-adapter")
EVERY_S: Final = 4.0


async def _adapters(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    asleep, frozen = fleet.replica("fal-adapter-1"), fleet.replica("replicate-adapter-1")
    if rng.random() < 0.5:
        asleep, frozen = fleet.replica("replicate-adapter-1"), fleet.replica("fal-adapter-1")
    await asleep.kill()
    await asleep.start("after_intent:2:stop")
    async with load.running(RATE):
        await wait_until_frozen(asleep)
        frozen.stop()
        await asyncio.sleep(fleet.scale.frozen_s)  # The standstill itself is the fault.
        woken_at = time()
        for one in (asleep, frozen):
            one.cont()

    def held_back(one: Ambiguous) -> bool:
        # It is found never to have been sent, or its process says so upon waking and sends it then.
        return all(post["at"] >= woken_at for post in bill_log.posts().get(one.attempt_id, ()))

    found = await resolved(fleet, bill_log, began, lambda all_: any(map(held_back, all_)))
    posted, taken = await all_bound(fleet, bill_log)
    woke = await _upon_waking(fleet, asleep)
    return [
        (
            f"{asleep.name} stopped between intent and POST, {frozen.name} at work, "
            f"both for {fleet.scale.frozen_s:.0f} s and more"
        ),
        f"{woke}; {describe(found)}",
        f"{taken} runs of {posted} attempts POSTed, none accepted twice; none bound to another's run",
    ]


async def _upon_waking(fleet: Fleet, replica: Replica) -> str:
    """How a replica handled the lost time, as text. Raises AssertionError if it did not detect it."""
    if not replica.running:
        assert replica.returncode != 0, f"{replica.name} ended as if all were well"
        return f"it ended itself upon waking, as after any standstill of {BLOCKED_LOOP_LIMIT_S:.0f} s"
    held_back = await _late_posts(fleet, replica)
    assert held_back >= 1, f"{replica.name} woke up after its lease and did not notice"
    return f"{held_back} POSTs held back upon waking"


async def _late_posts(fleet: Fleet, replica: Replica) -> int:
    # The value since its start: while it was frozen, its metrics could not be read.
    page = (await fleet.pages.get(f"{replica.address}/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("segue_late_posts_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


async def _sink_and_orchestrator(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    other = fleet.add("log-sink")
    await other.start()
    await other.ready()
    sink, orchestrator = fleet.replica("log-sink-1"), rng.choice(fleet.replicas("orchestrator"))
    for one, point in ((sink, "sink_mid_batch:2:stop"), (orchestrator, "before_handler_tx:2:stop")):
        await one.kill()
        await one.start(point)
    counts = await MetricDeltas.of(fleet, "log-sink")
    async with load.running(RATE):
        await asyncio.gather(wait_until_frozen(sink), wait_until_frozen(orchestrator))
        handled = await _stored(fleet)
        await asyncio.sleep(fleet.scale.frozen_s)  # The standstill itself is the fault.
        meanwhile = await _stored(fleet) - handled
        for one in (sink, orchestrator):
            one.cont()
    assert meanwhile > 0, "the other sink stored nothing meanwhile"
    assert not await load.drain(45)

    async def read() -> bool:
        return not await count(fleet, UNREAD, [one.job_id for one in load.requests])

    await wait_for("the log has the end of every job", read)
    assert not await count(fleet, TWICE, began)
    assert not await count(fleet, GAPS)
    assert not await counts.since("segue_sink_missed_total")
    await fleet.remove(other)
    return [
        (
            f"{sink.name} stopped inside its transaction, {orchestrator.name} before its own, "
            f"for {fleet.scale.frozen_s:.0f} s"
        ),
        f"{meanwhile} events stored by the other sink meanwhile; no event twice, no gap",
        f"{bill_log.once()} attempts POSTed, none accepted twice",
    ]


async def _stored(fleet: Fleet) -> int:
    return await count(fleet, "SELECT count(*) FROM log_sink.events")


UNREAD = """
SELECT count(*) FROM unnest($1::text[]) AS asked (job_id) WHERE NOT EXISTS (
    SELECT 1 FROM log_sink.jobs WHERE jobs.job_id = asked.job_id AND status IN ('succeeded', 'failed', 'cancelled')
)
"""


async def _storm(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log, ends = BillLog(fleet), monotonic() + fleet.scale.rebalancing_s
    joined = killed = 0
    async with load.running(RATE):
        while monotonic() < ends:
            extra = fleet.add(JOINING[joined % 3])
            await extra.start()
            await extra.ready()
            await asyncio.sleep(rng.uniform(0, EVERY_S / 2))
            if joined % 2 == 0:
                await extra.kill()
                killed += 1
            await fleet.remove(extra)
            joined += 1
            rows = await fetch(fleet, TWO_LIVE)
            assert not rows, f"jobs with two live attempts: {rows}"
        during = load.over
        call = len(load.requests)
    assert not await load.drain(60)
    assert joined > 0, "no replica joined"
    assert killed > 0, "no replica was killed"
    posted, taken = await all_bound(fleet, bill_log)
    assert not await count(fleet, GAPS)
    return [
        f"{joined} replicas joined and left within {fleet.scale.rebalancing_s:.0f} s, {killed} of them killed",
        f"{during} of {call} jobs ended during the storm, all of them after it",
        f"{taken} runs of {posted} attempts POSTed, none accepted twice",
    ]


# Across both ledgers: within one, and for the orchestrator, a unique index already forbids it.
TWO_LIVE = """
SELECT job_id FROM (SELECT job_id, state FROM fal_adapter.attempts
                    UNION ALL SELECT job_id, state FROM replicate_adapter.attempts) AS every
WHERE state NOT IN ('succeeded', 'failed', 'cancelled') GROUP BY job_id HAVING count(*) > 1
"""

ROWS = {
    row.number: row
    for row in (
        Row(
            9,
            "Zombie adapters, one of them between intent and POST",
            "at most one POST; stale writes rejected",
            _adapters,
        ),
        Row(10, "Zombie sink and orchestrator", "row locks and versions fence them", _sink_and_orchestrator),
        Row(11, "Rebalance storm", "throughput dips; nothing is done twice", _storm),
    )
}
