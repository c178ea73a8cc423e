"""Row 31: the clock of one replica of each service is wrong by ten minutes, and is set back meanwhile."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import GAPS, RATE, TWICE, Row
from chaos.rows.kafka.brokers import more_accepted
from chaos.rows.probes import BillLog, count, now, wait_for
from contracts.topics import SERVICES

OFF_BY_S: Final = 600
SLACK_S: Final = 30
OFF_FROM_DATABASE: Final = 'segue_clock_difference_seconds{reference="database"}'
LIBRARIES: Final = ("/usr/lib", "/usr/local/lib")


async def _wrong_clocks(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    off = {fleet.replicas(service)[0]: rng.choice((-OFF_BY_S, OFF_BY_S)) for service in SERVICES}
    try:
        for one, by_s in off.items():
            await start_off_by(fleet, one, by_s)
        await asyncio.gather(*(one.ready() for one in off))
        gateway = fleet.replica("gateway-1")
        async with load.running(RATE):
            await more_accepted(load, "with wrong clocks")
            await _is_off_by(fleet, gateway, off[gateway])
            for one, by_s in off.items():
                _set(_clock(fleet, one), -by_s)
            await _is_off_by(fleet, gateway, -off[gateway])
            await more_accepted(load, "after the clocks were changed")
        assert not await load.drain(120)
    finally:
        for one in off:
            one.environment = {}
        await asyncio.gather(*(one.term() for one in off))
    assert not await count(fleet, TWICE, began)
    assert not await count(fleet, GAPS)
    plain = [
        one for one in load.requests if one.job_id and not one.spec.cancelled and "deadline_s" not in one.spec.fields
    ]
    failed = [one.token for one in plain if one.ended != "succeeded"]
    assert not failed, f"jobs failed for the clocks: {failed}"
    posts, taken = await all_bound(fleet, bill_log)
    clocks = ", ".join(f"{one.name} {by_s:+} s" for one, by_s in off.items())
    return [
        f"{clocks}; then each the other way round while it ran",
        (
            f"all {len(load.requests)} requests ended, those without a deadline of their own in success; "
            f"{taken} runs of {posts} attempts POSTed, none twice"
        ),
    ]


async def start_off_by(fleet: Fleet, replica: Replica, by_s: int) -> None:
    """Start a replica again with a clock that is wrong by so many seconds; its environment then has that clock."""
    library, clock = await asyncio.to_thread(_libfaketime), _clock(fleet, replica)
    _set(clock, by_s)
    replica.environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    await replica.term()
    await replica.start()


async def _is_off_by(fleet: Fleet, gateway: Replica, by_s: int) -> None:
    """Wait until the gateway, which compares its clock with the database's, says that it is wrong by so many seconds.

    The other services do not compare theirs.
    """

    async def found() -> bool:
        page = (await fleet.pages.get(f"{gateway.address}/metrics")).text
        said = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(OFF_FROM_DATABASE)]
        return bool(said) and abs(float(said[0]) - by_s) < SLACK_S

    await wait_for(f"the gateway's clock is wrong by {by_s:+} s", found, 90)


def _libfaketime() -> Path:
    """The library that changes a process's clock. Raises AssertionError if this machine does not have it."""
    found = next((path for root in LIBRARIES for path in Path(root).glob("**/libfaketime.so.1")), None)
    assert found is not None, "wrong clocks need libfaketime (Debian's package libfaketime)"
    return found


def _clock(fleet: Fleet, replica: Replica) -> Path:
    return fleet.folder / f"{replica.name}.clock"


def _set(clock: Path, by_s: int) -> None:
    clock.write_text(f"{by_s:+}\n")


ROWS = {
    31: Row(
        31,
        "Clocks wrong by ten minutes",
        "timers go by PostgreSQL's clock: every job ends well",
        _wrong_clocks,
        unsettles=True,
    )
}
