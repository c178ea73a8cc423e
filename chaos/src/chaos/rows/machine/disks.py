"""Row 22: the disk of PostgreSQL is full, then that of one broker."""

from __future__ import annotations

import asyncio
import random

from chaos.cluster.disks import BROKER, fill, free_disks
from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import GAPS, RATE, TWICE, Row
from chaos.rows.kafka.brokers import accepted, more_accepted
from chaos.rows.probes import BillLog, count, ends, now
from contracts.topics import DEAD_LETTERS


async def _full(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log, dead = await now(fleet), BillLog(fleet), await ends(fleet, DEAD_LETTERS)
    assert fleet.disks, "row 22 takes root, which mounts the disks that it fills"
    said = []
    async with load.running(RATE), fleet.supervised():
        for name, disk in fleet.disks.items():
            await more_accepted(load, f"before {name} is full", 120)
            before = accepted(load)
            await asyncio.to_thread(fill, disk)
            await asyncio.sleep(fleet.scale.locked_s)  # The outage itself is the fault.
            meanwhile = accepted(load) - before
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
    assert await ends(fleet, DEAD_LETTERS) == dead, "there are dead letters"
    assert not await count(fleet, TWICE, began)
    assert not await count(fleet, GAPS)
    posts, taken = await all_bound(fleet, bill_log)
    return [*said, f"{taken} runs of {posts} attempts POSTed, each bound, none twice"]


ROWS = {22: Row(22, "Disks full", "nothing acknowledged is lost; work resumes with the space", _full, small_disks=True)}
