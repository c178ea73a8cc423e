"""Row 16: replicas that reach Kafka no more, while the others do."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.kafka.brokers import more_accepted
from chaos.rows.probes import wait_for

CUT_OFF: Final = ("orchestrator-1", "fal-adapter-1", "replicate-adapter-1")
SOME: Final = 10


async def _cut_off(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    alone = [fleet.replica(name) for name in CUT_OFF]
    settings = {"KAFKA_BOOTSTRAP_SERVERS": fleet.brokers.servers_behind}
    await asyncio.gather(*(one.term() for one in alone))
    try:
        await asyncio.gather(*(one.start(**settings) for one in alone))
        await asyncio.gather(*(one.ready() for one in alone))
        async with load.running(RATE), fleet.supervised(but=alone):
            await more_accepted(load, "through the way that is cut later")
            for broker in fleet.brokers:
                broker.way.blackhole = True
            await asyncio.sleep(fleet.scale.brokers_away_s)  # The outage itself is the fault.
            over = load.over

            async def others_work() -> bool:
                return load.over >= over + SOME

            await wait_for("jobs end at the other replicas", others_work, 90)
            gone = [one.name for one in alone if not one.running]
            for broker in fleet.brokers:
                broker.way.heal()
                broker.way.reset_all()
            await asyncio.gather(*(one.start(**settings) for one in alone if not one.running))
            await asyncio.gather(*(one.ready() for one in alone))
        assert not await load.drain(90)
    finally:
        # Restoring the fleet starts what is down, and does not change the settings of what runs.
        await asyncio.gather(*(one.term() for one in alone))
    paid = await before.unharmed()
    return [
        (
            f"{', '.join(CUT_OFF)} heard nothing from Kafka for {fleet.scale.brokers_away_s:.0f} s and more, on open "
            f"connections; {', '.join(gone) or 'none of them'} ended"
        ),
        f"the other replicas went on; all {len(load.requests)} requests ended; {paid}",
    ]


ROWS = {
    16: Row(
        16,
        "One replica of three services cut off from Kafka",
        "the others go on; it comes back",
        _cut_off,
        unsettles=True,
    )
}
