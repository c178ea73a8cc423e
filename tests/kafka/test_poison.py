"""Undecodable and failing records on a real Apache Kafka: one dead letter each, and all offsets are committed."""

from __future__ import annotations

import random
from functools import partial

import pytest
from aiokafka.admin import NewTopic
from tests.chassis.poison import garbage, letter_of, original_headers, send_unreadable
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, toy, until
from tests.kafka.test_topics import delete

from chassis.kafka.topics import admin
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Record
from contracts.topics import DEAD_LETTERS, JOBS, PARTITIONS, REQUESTS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


async def test_undecodable_records_and_failing_messages_become_one_dead_letter_each(
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


async def test_a_record_that_the_client_cannot_read_does_not_block_its_neighbours(
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


def noise(count: int) -> bytes:
    """Incompressible bytes."""
    return random.Random(count).randbytes(count)


async def test_a_dead_letter_larger_than_its_topic_allows_is_shortened_and_blocks_nothing(
    servers: str, database_url: str
) -> None:
    """The topic was created with a smaller limit, or the broker has one."""
    await delete(servers, DEAD_LETTERS)
    async with admin(KafkaCluster(servers)) as client:
        limit = {"max.message.bytes": "20000"}
        await client.create_topics([NewTopic(DEAD_LETTERS.name, PARTITIONS, 1, topic_configs=limit)])
    small = [Record(REQUESTS.name, b"k", noise(3_000), ()) for _ in range(20)]
    wide = Record(REQUESTS.name, b"wide", noise(10_000), (("big", noise(15_000)),))
    huge = Record(REQUESTS.name, b"huge", noise(30_000), (("small", b"1"),))

    async def committed() -> bool:
        return set((await lag(servers, "narrow", REQUESTS.name)).values()) == {0}

    async with toy(servers, database_url, runtime_for("narrow")) as made:
        for n in range(2):
            await send(servers, [request(n), *small, wide, huge, request(100 + n)])
            await until(partial(handled, made, n, 100 + n))
            await until(committed)
        assert made.runtime.unhealthy() is None
        assert made.runtime.unready() is None
    letters = await read(servers, DEAD_LETTERS.name, 44)
    assert len({letter_of(record)["offset"] for record in letters}) == len(letters) == 44
    whole = [record for record in letters if "left-out" not in letter_of(record)]
    assert {record.value for record in whole} == {record.value for record in small}
    cut = {record.key: (record.value, letter_of(record)["left-out"]) for record in letters if record not in whole}
    assert cut == {b"wide": (wide.value, "headers"), b"": (b"", "headers,value,key")}
