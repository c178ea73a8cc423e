"""Offsets on a real Apache Kafka: committed records are not repeated, others are, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.chassis import toy as toy_module
from tests.chassis.toy import Toy, environment, job, lag, read, request, runtime_for, send, started, toy, until
from tests.patience import patient

from chassis.errors import EXIT_UNHEALTHY
from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS
from segue_cli.local.process import child

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
TOY = [sys.executable, str(Path(toy_module.__file__)), "toy"]


async def committed(servers: str, group: str) -> bool:
    return set((await lag(servers, group, REQUESTS.name)).values()) == {0}


async def test_a_restart_continues_at_the_committed_offsets(servers: str, database_url: str) -> None:
    await send(servers, [request(n) for n in range(300)], partition=None)
    async with toy(servers, database_url, runtime_for("steady")) as first:
        await until(lambda: _same(first, 300))
    assert await committed(servers, "steady")
    await send(servers, [request(n) for n in range(300, 400)], partition=None)
    async with toy(servers, database_url, runtime_for("steady")) as second:
        await until(lambda: _same(second, 400))
    assert len(await read(servers, JOBS.name, 400)) == 400
    assert await committed(servers, "steady")


async def _same(made: Toy, count: int) -> bool:
    """Whether each of the first `count` effects has been committed exactly once."""
    return await made.commits() == dict.fromkeys(map(job, range(count)), 1)


async def test_a_replica_that_joins_repeats_nothing_that_is_finished(
    servers: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Then nothing but the rebalance has the first one commit.
    monkeypatch.setattr("chassis.delivery.offsets.COMMIT_EVERY_S", 1000.0)
    monkeypatch.setattr("chassis.delivery.consumer._POLL_MS", 100_000)
    async with toy(servers, database_url, runtime_for("joined")) as first:
        for n in range(60):
            await send(servers, [request(n)], partition=None)
            await until(partial(_same, first, n + 1))
        assert not await committed(servers, "joined")
        async with toy(servers, database_url, runtime_for("joined")):
            await until(lambda: committed(servers, "joined"), within_s=60)
            await send(servers, [request(n) for n in range(60, 120)], partition=None)
            await until(lambda: _same(first, 120), within_s=60)


async def test_a_crash_before_the_commit_repeats_the_batch_and_loses_nothing(servers: str, database_url: str) -> None:
    await send(servers, [request(0), request(1, "crash"), request(2)])
    async with child(TOY, name="toy", env=environment(servers, database_url)) as process:
        assert await asyncio.wait_for(process.wait(), patient(60)) == 9
    async with toy(servers, database_url, runtime_for(), mended=True) as made:

        async def repeated() -> bool:
            return await made.commits() == dict.fromkeys(map(job, range(3)), 2)

        await until(repeated)
        told = await read(servers, JOBS.name, 3)
        assert sorted(record.key or b"" for record in told) == sorted(job(n).encode() for n in range(3))
    assert await committed(servers, "toy")


async def test_nothing_is_lost_while_the_broker_is_stopped_for_a_while(
    servers: str, database_url: str, real_kafka: Any
) -> None:
    async with toy(servers, database_url, runtime_for("patient")) as made:
        await send(servers, [request(n) for n in range(50)], partition=None)
        await until(lambda: _same(made, 50))
        await send(servers, [request(n) for n in range(50, 100)], partition=None)
        os.kill(real_kafka.pid, signal.SIGSTOP)
        try:
            async with made.outbox.transaction() as transaction:
                transaction.emit(started(job(1000)), None)
            # Longer than the session timeout, so that the group is rebalanced.
            await asyncio.sleep(toy_module.SESSION_S + 2.5)
        finally:
            os.kill(real_kafka.pid, signal.SIGCONT)

        async def recovered() -> bool:
            return set(await made.commits()) == set(map(job, range(100))) and await made.waiting() == 0

        await until(recovered, within_s=60)
        assert made.runtime.unhealthy() is None
        await until(lambda: committed(servers, "patient"))
    published = {record.key for record in await read(servers, JOBS.name, 101)}
    assert published == {job(n).encode() for n in (*range(100), 1000)}
    assert await read(servers, DEAD_LETTERS.name, 0) == []


async def test_a_permanent_producer_error_ends_the_process_and_the_next_one_publishes(
    servers: str, database_url: str
) -> None:
    lines: list[str] = []
    # A gap in the sequence of an idempotent producer is detected only after it has written to the partition.
    await send(servers, [request(n) for n in range(40)])
    async with child(TOY, name="toy", env=environment(servers, database_url), on_line=lines.append) as process:
        async with toy(servers, database_url, runtime_for("onlooker"), consuming=False) as onlooker:
            await until(lambda: _same(onlooker, 40), within_s=60)
        await read(servers, JOBS.name, 40)
        await send(servers, [request(40, "lose sequence")])
        assert await asyncio.wait_for(process.wait(), patient(60)) == EXIT_UNHEALTHY
    assert any("the producer, for good: OutOfOrderSequenceNumber" in line for line in lines)
    async with toy(servers, database_url, runtime_for(), mended=True) as made:
        await until(lambda: _published(made, servers, 41))


async def _published(made: Toy, servers: str, count: int) -> bool:
    told = {record.key for record in await read(servers, JOBS.name, 0)}
    return told == {job(n).encode() for n in range(count)} and await made.waiting() == 0
