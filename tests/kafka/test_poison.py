"""Poison on a real Apache Kafka: one dead letter each, neighbours handled, offsets committed to the end."""

from __future__ import annotations

import pytest
from tests.chassis.poison import garbage, letter_of, original_headers, send_unreadable
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, toy, until

from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


async def test_garbage_and_messages_that_cannot_be_handled_cost_one_dead_letter_each(
    servers: str, database_url: str
) -> None:
    kinds = garbage()
    records = [request(0, "raise")]
    for n, bad in enumerate(kinds.values(), 1):
        records += [bad, request(n)]
    await send(servers, [*records, request(99)])
    async with toy(servers, database_url, runtime_for()) as made:
        await until(lambda: handled(made, *range(1, len(kinds) + 1), 99))
        assert set((await made.commits()).values()) == {1}
        assert made.calls.count(["raise"]) == 3
        assert made.runtime.unhealthy() is None
        letters = await read(servers, DEAD_LETTERS.name, len(kinds) + 1)
    by_offset = {int(letter_of(record)["offset"]): record for record in letters}
    assert len(letters) == len(by_offset) == len(kinds) + 1
    assert letter_of(by_offset[0])["tries"] == "3"
    for n, (why, bad) in enumerate(kinds.items()):
        record = by_offset[2 * n + 1]
        assert why in letter_of(record)["error"]
        assert (record.key, record.value) == (bad.key or b"", bad.value or b"")
        assert original_headers(letter_of(record)) == list(bad.headers)
    assert len(await read(servers, JOBS.name, len(kinds) + 1)) == len(kinds) + 1
    assert set((await lag(servers, "toy", REQUESTS.name)).values()) == {0}


async def test_a_record_that_the_client_cannot_read_does_not_stop_its_neighbours(
    servers: str, database_url: str
) -> None:
    for partition in range(1, 6):
        await send(servers, [request(10 * partition + n) for n in range(5)], partition=partition)
    await send(servers, [request(1)])
    await send_unreadable(servers, request(2))
    await send(servers, [request(3)])
    others = [10 * partition + n for partition in range(1, 6) for n in range(5)]
    async with toy(servers, database_url, runtime_for()) as made:
        await until(lambda: handled(made, 1, 2, 3, *others))
        assert set((await made.commits()).values()) == {1}
        assert made.runtime.unhealthy() is None
    letters = await read(servers, DEAD_LETTERS.name, 2)
    assert [letter_of(record)["offset"] for record in letters] == ["2", "3"]
    assert set((await lag(servers, "toy", REQUESTS.name)).values()) == {0}
