"""Row 22: the disk of PostgreSQL is full, then that of one broker."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

from chaos.cluster.disks import BROKER, POSTGRES, fill, free_disks
from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.kafka.brokers import more_accepted
from chaos.rows.probes import log_sizes, logged_since

NO_SPACE: Final = "No space left"


async def _full(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    assert fleet.disks, "row 22 takes root, which mounts the disks that it fills"
    said = []
    async with load.running(RATE), fleet.supervised():
        for name, disk in fleet.disks.items():
            await more_accepted(load, f"before {name} is full", 120)
            accepted = load.accepted
            logs = _logs(fleet, name)
            await asyncio.to_thread(fill, disk)
            await asyncio.sleep(fleet.scale.locked_s)  # The outage itself is the fault.
            meanwhile = load.accepted - accepted
            # The log of a broker may be on the disk that is full: it has ended then, as one without a disk does.
            ended = name == BROKER and not fleet.brokers[0].running
            free_disks([disk])
            assert ended or logged_since(logs, NO_SPACE), f"{name} did not run out of space"
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


def _logs(fleet: Fleet, name: str) -> dict[Path, int]:
    """The sizes of the logs of the server on a disk: a broker has another one once it is started again."""
    if name == POSTGRES:
        return log_sizes(fleet.folder, "logs/postgres.log")
    broker = fleet.brokers[0]
    return log_sizes(broker.dir, "broker.log") | log_sizes(broker.dir.parent, f"{broker.name}.log")


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
