"""Row 22: the disk of PostgreSQL is full, then that of one broker."""

from __future__ import annotations

import asyncio
import random

from chaos.cluster.disks import BROKER, fill, free_disks
from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.kafka.brokers import more_accepted


async def _full(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    assert fleet.disks, "row 22 takes root, which mounts the disks that it fills"
    said = []
    async with load.running(RATE), fleet.supervised():
        for name, disk in fleet.disks.items():
            await more_accepted(load, f"before {name} is full", 120)
            accepted = load.accepted
            await asyncio.to_thread(fill, disk)
            await asyncio.sleep(fleet.scale.locked_s)  # The outage itself is the fault.
            meanwhile = load.accepted - accepted
            free_disks([disk])
            up = await fleet.brokers.known()
            # Both may have ended of it; a supervisor starts them again.
            if name == BROKER:
                await fleet.brokers[0].kill()
                await fleet.brokers.restore()
            else:
                await fleet.postgres.stop("fast")
                await fleet.postgres.start()
            said.append(
                f"the disk of {name} full for {fleet.scale.locked_s:.0f} s and more: {meanwhile} requests accepted "
                f"meanwhile, {up} of {len(fleet.brokers)} brokers up at its end"
            )
        await more_accepted(load, "with space on both disks", 120)
    assert not await load.drain(180)
    return [*said, await before.unharmed()]


ROWS = {
    22: Row(
        22,
        "Disks full",
        "nothing acknowledged is lost; work resumes with the space",
        _full,
        unsettles=True,
        small_disks=True,
    )
}
