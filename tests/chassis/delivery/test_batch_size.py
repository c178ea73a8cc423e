"""Batches that exceed their time: they get smaller, a slow partition is paused, and nothing becomes a dead letter."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import pytest
from aiokafka import TopicPartition
from tests.chassis.delivery.test_dead_letters import record
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, toy, until
from tests.patience import patient

from chassis.delivery import handling
from chassis.delivery.batch_size import BatchSize
from chassis.delivery.consumer import Delivered
from chassis.delivery.dlq_limit import DlqLimit
from chassis.delivery.handling import Handling, TooSlow
from chassis.postgres.limits import NotResponding
from contracts.messages.requests import CancelRequested
from contracts.topics import DEAD_LETTERS, REQUESTS

PLACES = [TopicPartition("t", n) for n in range(3)]
ALL = frozenset(PLACES)


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


async def committed(servers: str) -> bool:
    return set((await lag(servers, "toy", REQUESTS.name)).values()) == {0}


@pytest.mark.parametrize("most", [1, 10, 300])
async def test_a_handler_that_can_only_process_small_batches_processes_all_messages(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(handling, "HANDLER_LIMIT_S", patient(0.5))
    count = min(20 * most, 900)
    await send(embedded_kafka, [request(n) for n in range(count)])
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        made.most = most
        await until(lambda: handled(made, *range(count)))
        assert list(await made.commits()) == [job(n) for n in range(count)], "in order"
        await until(lambda: committed(embedded_kafka))
        assert (made.runtime.unhealthy(), made.runtime.unready()) == (None, None)
        assert len([call for call in made.calls if len(call) > most]) < 40
    assert await read(embedded_kafka, DEAD_LETTERS.name, 0) == []


async def test_a_message_that_waits_for_a_lock_delays_only_its_own_partition(
    embedded_kafka: str, database_url: str
) -> None:
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        async with made.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE locked")
            await send(embedded_kafka, [request(n, "lock" if n == 20 else None) for n in range(40)], partition=0)
            for partition in range(1, 6):
                numbers = range(100 * partition, 100 * partition + 40)
                await send(embedded_kafka, [request(n) for n in numbers], partition=partition)
            others = [100 * partition + n for partition in range(1, 6) for n in range(40)]
            await until(lambda: handled(made, *range(20), *others))
            await send(embedded_kafka, [request(n) for n in range(1000, 1040)], partition=3)
            await until(lambda: handled(made, *range(1000, 1040)))
            assert not await handled(made, 20)
        await until(lambda: handled(made, *range(40)))
        assert [key for key in await made.commits() if key in {job(n) for n in range(40)}] == [
            job(n) for n in range(40)
        ]
        await until(lambda: committed(embedded_kafka))
    assert await read(embedded_kafka, DEAD_LETTERS.name, 0) == []


@pytest.mark.parametrize(
    ("error", "slow"),
    [
        (TimeoutError(), True),
        (asyncpg.QueryCanceledError("canceling statement due to statement timeout"), True),
        (asyncpg.LockNotAvailableError("canceling statement due to lock timeout"), True),
        (NotResponding("the database does not answer"), False),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
        (ConnectionRefusedError(), False),
        (asyncpg.AdminShutdownError("terminating connection"), False),
        (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"), False),
    ],
)
async def test_which_errors_count_as_slow_and_which_as_an_outage(
    monkeypatch: pytest.MonkeyPatch, error: Exception, slow: bool
) -> None:
    monkeypatch.setattr(handling, "HOLD_S", 0.0)

    async def fails(_batch: Sequence[Delivered]) -> None:
        raise error

    async def holding() -> None:
        return

    held = Handling(runtime_for(), fails, None, DlqLimit(), holding)
    message = CancelRequested(job_id=job(1), occurred_at=datetime.now(UTC), tenant="toy")
    with pytest.raises(TooSlow if slow else type(error)):
        await held.settle([Delivered(message, "1", None, record(None, None))], [])


def test_batches_shrink_after_a_slow_one_and_grow_after_each_fast_one() -> None:
    pace = BatchSize(1000)
    sizes = []
    for count in (1000, 250, 62, 15, 3, 1, 1):
        pace.too_slow(count)
        sizes.append(pace.turn(ALL, 0)[0])
    assert sizes == [250, 62, 15, 3, 1, 1, 1]
    for _ in range(30):
        pace.done(PLACES)
        sizes.append(pace.turn(ALL, 0)[0])
    assert sizes[-30:] == [*[2] * 19, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000]
    pace.too_slow(8)
    assert pace.turn(ALL, 0)[0] == 2, "of what was slow, and not of what might have been taken"


@pytest.mark.parametrize("most", [1, 2, 7, 10, 100, 700])
def test_the_batch_size_converges_to_what_can_be_processed_in_time(most: int) -> None:
    pace, done, slow = BatchSize(1000), 0, 0
    for _ in range(2000):
        size, _aside = pace.turn(ALL, 0)
        if size > most:
            pace.too_slow(size)
            slow += 1
        else:
            pace.done(PLACES)
            done += size
    assert slow < 60
    assert done > 2000 * most / 3


def test_a_paused_partition_is_tried_alone_after_growing_pauses() -> None:
    pace, now, waits = BatchSize(100), 0.0, []
    for _ in range(6):
        pace.leave_aside(PLACES[1], now)
        left = now
        while pace.turn(ALL, now) != (1, {PLACES[0], PLACES[2]}):
            assert pace.turn(ALL, now) == (100, {PLACES[1]})
            now += 1
        assert pace.turn(ALL, now) == (100, {PLACES[1]}), "the others have their turn as well"
        waits.append(now - left)
    assert waits == [5, 10, 20, 40, 60, 60]
    pace.done([PLACES[0]])
    assert pace.turn(ALL, now) == (100, {PLACES[1]})
    pace.done([PLACES[1]])
    assert pace.turn(ALL, now) == (100, set())


def test_when_one_paused_partition_resumes_the_others_are_tried_at_once_and_lost_ones_dropped() -> None:
    pace = BatchSize(100)
    for place in PLACES:
        pace.leave_aside(place, 0)
    assert pace.turn(ALL, 1) == (100, ALL)
    pace.done([PLACES[2]])
    assert {frozenset(pace.turn(ALL, 1)[1]) for _ in range(2)} == {ALL - {PLACES[0]}, ALL - {PLACES[1]}}
    assert pace.turn(frozenset(PLACES[2:]), 1) == (100, set())
