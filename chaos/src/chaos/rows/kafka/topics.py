"""Rows 17, 41 and 42: partitions without a leader, partitions that are added, topics that are deleted and made anew."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from chaos.cluster.fleet import Fleet
from chaos.cluster.topics import WORK, add_partitions, create, delete
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.kafka.brokers import UNAVAILABLE, more_accepted
from chaos.rows.probes import caught_up, ends, wait_for
from contracts.topics import PARTITIONS

SOME: Final = 10
MORE: Final = PARTITIONS + 3


async def _without_leader(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    await _remade(fleet, replicas=1)
    victim = rng.choice(list(fleet.brokers))
    async with load.running(RATE):
        await more_accepted(load, "before the broker dies")
        asked = len(load.answers)
        await victim.kill()
        await asyncio.sleep(fleet.scale.brokers_away_s)  # The outage itself is the fault.
        over = load.over

        async def others_end() -> bool:
            return load.over >= over + SOME

        await wait_for("jobs of the other partitions end", others_end, 90)
        refused = sum(one.status == UNAVAILABLE for one in load.answers[asked:])
        meanwhile = load.over - over
        await fleet.brokers.restore()
        await more_accepted(load, f"once {victim.name} is back", 120)
    assert refused, "no request was answered 503"
    await _all_done(fleet, load)
    before.assert_same_processes()
    paid = await before.unharmed()
    await _remade(fleet, replicas=len(fleet.brokers))
    return [
        (
            f"{victim.name}, which alone had {PARTITIONS // len(fleet.brokers)} of {PARTITIONS} partitions of each "
            f"topic, down for {fleet.scale.brokers_away_s:.0f} s and more: {refused} POSTs were answered 503, and "
            f"{meanwhile} and more jobs of the other partitions ended; no service ended"
        ),
        f"all {len(load.requests)} requests ended; {paid}",
    ]


async def _more_partitions(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    async with load.running(RATE):
        await more_accepted(load, "before the partitions are added")
        await add_partitions(fleet.brokers.servers, MORE)
        # Kafka's clients learn of them at different times, at most 10 s later; jobs change their partition meanwhile.
        await more_accepted(load, "while clients learn of them")
        await asyncio.sleep(fleet.scale.rebalancing_s)  # The time of different views is itself the fault.
        await more_accepted(load, "with more partitions")
    await _all_done(fleet, load)
    used = {place.partition for place, end in (await ends(fleet, *WORK)).items() if end}
    assert used >= set(range(PARTITIONS, MORE)), f"no message is in a new partition: {sorted(used)}"
    before.assert_same_processes()
    paid = await before.unharmed()
    await _remade(fleet, replicas=len(fleet.brokers))
    return [
        f"{PARTITIONS} partitions became {MORE} on each topic under load; no service ended",
        f"all {len(load.requests)} requests ended; {paid}",
    ]


async def _topics_anew(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    async with load.running(RATE):
        await more_accepted(load, "before the topics are deleted")
    await _all_done(fleet, load)
    records = sum((await ends(fleet, *WORK)).values())
    await _remade(fleet, replicas=len(fleet.brokers))
    async with load.running(RATE):
        await more_accepted(load, "in the topics that were made anew", 120)
    await _all_done(fleet, load)
    anew = sum((await ends(fleet, *WORK)).values())
    before.assert_same_processes()
    paid = await before.unharmed()
    return [
        (
            f"{len(WORK)} topics with {records} records deleted and made anew while all services ran and no message "
            f"was unread; {anew} records were then read from the new ones; no service ended"
        ),
        f"all {len(load.requests)} requests ended; {paid}",
    ]


async def _all_done(fleet: Fleet, load: Load) -> None:
    open_ = await load.drain(180)
    assert not open_, f"{len(open_)} jobs are open"
    await caught_up(fleet, 90)


async def _remade(fleet: Fleet, replicas: int) -> None:
    """Delete the topics and make them anew. What is unread in them is lost."""
    await caught_up(fleet, 90)
    await fleet.before_deletion()
    await delete(fleet.brokers.servers)
    await create(fleet.brokers.servers, [one.id for one in fleet.brokers], replicas)


ROWS = {
    row.number: row
    for row in (
        Row(
            17,
            "A third of the partitions without a leader",
            "503 for their jobs; the others go on",
            _without_leader,
            unsettles=True,
            without_kafka=True,
        ),
        Row(
            41,
            "Partitions added under load",
            "nothing is lost, nothing is done twice",
            _more_partitions,
            unsettles=True,
        ),
        Row(
            42,
            "Topics deleted and made anew",
            "services read them from the start, and go on",
            _topics_anew,
            unsettles=True,
        ),
    )
}
