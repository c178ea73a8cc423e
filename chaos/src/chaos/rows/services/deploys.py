"""Rows 29 and 43: a release that fails on every message; an earlier release, and this one again, under load."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import httpx

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.load.clients import Load
from chaos.load.requests import RequestSpec
from chaos.rows.ambiguous import all_bound
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.kafka.brokers import more_accepted
from chaos.rows.probes import BillLog, ends, wait_for
from chassis.delivery.dlq_limit import DlqLimit
from contracts.topics import ADAPTERS, DEAD_LETTERS, ServiceName
from segue_cli.stack.environment import without_settings, write_env

MOST_OPEN: Final = 1000
FAULTY: Final = "before_handler_tx:1:raise"
PAUSED: Final = "segue_dlq_limit_exceeded"
PLAIN: Final = RequestSpec("a warm pad", {"providers": ["fal", "replicate"], "deadline_s": 900})


async def _bad_deploy(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log, replicas = BillLog(fleet), fleet.replicas("orchestrator")
    before = sum((await ends(fleet, DEAD_LETTERS)).values())
    # Nothing ends while nothing is processed: more jobs are open than a load has otherwise.
    async with load.running(RATE, open_at_most=MOST_OPEN, spec=PLAIN):
        await more_accepted(load, "before the faulty release")

        async def all_paused() -> bool:
            return all([await _paused(fleet, one.address) for one in replicas])

        try:
            await _released(replicas, FAULTY)
            await wait_for("both replicas have paused", all_paused, 90)
            await more_accepted(load, "while nothing is processed")
            buried = sum((await ends(fleet, DEAD_LETTERS)).values()) - before
        finally:
            await _released(replicas)
        await asyncio.gather(*(one.ready() for one in replicas))
    # A probe may have failed since the count.
    letters = sum((await ends(fleet, DEAD_LETTERS)).values()) - before
    most = len(replicas) * (DlqLimit().least + 1)
    assert 0 < buried <= most, f"{buried} dead letters"
    said = await _replayed(fleet)
    # Records that an earlier row has spoiled may be read and buried again, and are not replayed.
    told = re.fullmatch(r"(\d+) of \1 are published\.", said)
    published = int(told[1]) if told is not None else 0
    assert 0 < published <= letters, f"{letters} dead letters, replayed: {said}"
    open_ = await load.drain(180)
    assert not open_, f"{len(open_)} jobs are open"
    failed = [one.token for one in load.requests if one.job_id and one.ended != "succeeded"]
    assert not failed, f"jobs were lost or failed: {failed}"
    posts, taken = await all_bound(fleet, bill_log)
    return [
        f"both orchestrators failed on every message, paused after {buried} dead letters, and were taken back",
        (
            f"`segue dlq replay`: {said}; all {len(load.requests)} jobs succeeded; "
            f"{taken} runs of {posts} attempts POSTed, none twice"
        ),
    ]


async def _released(replicas: Iterable[Replica], crash_at: str | None = None) -> None:
    """Restart replicas one after the other, with the fault or without."""
    for one in replicas:
        await one.term()
        await one.start(crash_at)


async def _paused(fleet: Fleet, address: str) -> bool:
    with suppress(httpx.HTTPError):
        page = (await fleet.pages.get(f"{address}/metrics")).text
        return any(line.startswith(PAUSED) and line.endswith(" 1.0") for line in page.splitlines())
    return False


async def _replayed(fleet: Fleet) -> str:
    """Replay the dead letters as an operator does; returns the last line that the command prints."""
    env_file = fleet.folder / "operator.env"
    write_env(env_file, fleet.env)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "segue_cli", "dlq", "replay", "--service", "orchestrator", "--error", "Faulty"),
        *("--yes", "--env-file", str(env_file)),
        env=without_settings(os.environ),
        cwd=str(fleet.folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    lines = output.decode().strip().splitlines()
    assert process.returncode == 0, f"segue dlq replay ended with {process.returncode}: {lines[-1:]}"
    return lines[-1]


ADAPTERS_FIRST: Final[tuple[ServiceName, ...]] = (*ADAPTERS, "log-sink", "orchestrator", "gateway")
"""The order of an upgrade, which docs/operations/upgrade.md gives; the way back is the opposite one."""


async def _back_and_forward(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    assert fleet.earlier_python is not None, "it needs --earlier, the interpreter of an earlier release"
    before = await Before.of(fleet)
    order = [one for service in ADAPTERS_FIRST for one in fleet.replicas(service)]
    try:
        async with load.running(RATE, spec=PLAIN):
            await more_accepted(load, "before the way back")
            await _replaced(reversed(order), fleet.earlier_python)
            await more_accepted(load, "by the earlier release")
            back = len(load.requests)
            await _replaced(order, sys.executable)
            await more_accepted(load, "by this release again")
    finally:
        for one in order:
            one.python = sys.executable
    assert not await load.drain(180)
    failed = [one.token for one in load.requests if one.job_id and one.ended != "succeeded"]
    assert not failed, f"jobs failed: {failed}"
    paid = await before.unharmed()
    return [
        f"{len(order)} replicas replaced one by one by the earlier release, and by this one again",
        f"{back} requests until the way forward, {len(load.requests)} in all: every job succeeded; {paid}",
    ]


async def _replaced(replicas: Iterable[Replica], python: str) -> None:
    for one in replicas:
        await one.term()
        one.python = python
        await one.start()
        await one.ready()


ROWS = {
    row.number: row
    for row in (
        Row(
            29,
            "A release that fails on every message",
            "it pauses after a bounded number of dead letters; replayed, nothing is lost",
            _bad_deploy,
            dead_letters=frozenset({"orchestrator"}),
        ),
        Row(
            43,
            "An earlier release, and this one again, under load",
            "every job succeeds; nothing is done twice",
            _back_and_forward,
            longer_s=600,
            earlier_release=True,
        ),
    )
}
