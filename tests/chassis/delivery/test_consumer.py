"""Batches with undecodable messages, outages, crashes and a faulty handler."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from prometheus_client import REGISTRY
from tests.chassis import toy as toy_module
from tests.chassis.poison import (
    DAMAGE,
    GOOD_HEADERS,
    NO_KEY,
    flood,
    garbage,
    letter_of,
    original_headers,
    send_oversized,
    send_unreadable,
)
from tests.chassis.toy import Toy, environment, job, lag, read, request, runtime_for, send, toy, until
from tests.patience import patient

from chassis.delivery import consumer as consumer_module
from chassis.delivery.offsets import COMMIT_EVERY_S
from chassis.kafka.records import MAX_BATCH_BYTES
from contracts.envelope import Record
from contracts.topics import DEAD_LETTERS, JOBS, MAX_MESSAGE_BYTES, PARTITIONS, REQUESTS, TOPICS
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import LocalPostgres, postgres
from segue_cli.local.process import child


async def committed(servers: str) -> bool:
    return set((await lag(servers, "toy", REQUESTS.name)).values()) == {0}


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


def messages_skipped() -> float:
    return REGISTRY.get_sample_value("segue_messages_skipped_total", {"topic": REQUESTS.name}) or 0.0


async def published(made: Toy) -> bool:
    return await made.waiting() == 0


async def test_each_undecodable_record_becomes_one_complete_dead_letter_and_its_neighbours_are_handled(
    embedded_kafka: str, database_url: str
) -> None:
    kinds = garbage()
    unknown = Record(REQUESTS.name, b"key", b"{}", (("ce_type", b"segue.job.praised.v1"),))
    keyless = Record(REQUESTS.name, NO_KEY, request(90).value, GOOD_HEADERS)
    records = [request(0)]
    for n, bad in enumerate(kinds.values(), 1):
        records += [bad, request(n)]
    skipped = messages_skipped()
    await send(embedded_kafka, [*records, unknown, keyless, request(99)])

    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(lambda: handled(made, *range(len(kinds) + 1), 90, 99))
        assert made.runtime.unhealthy() is None
        assert made.runtime.unready() is None
        assert set((await made.commits()).values()) == {1}
    assert messages_skipped() == skipped + 1

    letters = await read(embedded_kafka, DEAD_LETTERS.name, len(kinds))
    assert len(letters) == len(kinds)
    by_offset = {int(letter_of(record)["offset"]): record for record in letters}
    for n, (why, bad) in enumerate(kinds.items()):
        record = by_offset[2 * n + 1]
        letter = letter_of(record)
        assert why in letter["error"]
        assert (record.key, record.value) == (bad.key or b"", bad.value or b"")
        assert original_headers(letter) == list(bad.headers)
        assert (letter["topic"], letter["partition"], letter["tries"]) == (REQUESTS.name, "0", "0")
        assert letter["service"] == "toy"
        assert (letter["null-key"] == "true") is (bad.key is None)
        assert (letter["null-value"] == "true") is (bad.value is None)
        assert int(letter["timestamp-ms"]) > 0
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}


@pytest.mark.parametrize("why", DAMAGE)
async def test_records_that_the_client_cannot_read_are_skipped_and_their_offsets_reported(
    embedded_kafka: str, database_url: str, why: str
) -> None:
    for partition in range(1, 6):
        await send(embedded_kafka, [request(10 * partition + n) for n in range(5)], partition=partition)
    await send(embedded_kafka, [request(1)])
    await send_unreadable(embedded_kafka, request(2), DAMAGE[why])
    await send(embedded_kafka, [request(3)])
    others = [10 * partition + n for partition in range(1, 6) for n in range(5)]
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(lambda: handled(made, 1, 3, *others))
        await until(partial(committed, embedded_kafka))
        assert set((await made.commits()).values()) == {1}
        assert made.runtime.unhealthy() is None
    # The records behind it in the same batch are unreadable too.
    missing = ["2", "3"] if "header" in why else ["1", "2", "3"]
    letters = [letter_of(record) for record in await read(embedded_kafka, DEAD_LETTERS.name, len(missing))]
    assert [letter["offset"] for letter in letters] == missing
    assert {letter["error"] for letter in letters} == {f"Unreadable: {why}"}
    assert {(letter["topic"], letter["partition"], letter["left-out"]) for letter in letters} == {
        (REQUESTS.name, "0", "headers,value,key")
    }


async def test_a_batch_that_exceeds_the_memory_limit_is_not_decompressed(
    embedded_kafka: str, database_url: str
) -> None:
    await send_oversized(embedded_kafka, MAX_BATCH_BYTES + 1)
    await send(embedded_kafka, [request(1)])
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(lambda: handled(made, 1))
    (letter,) = map(letter_of, await read(embedded_kafka, DEAD_LETTERS.name, 1))
    assert letter["error"] == f"Unreadable: its batch holds more than {MAX_BATCH_BYTES} bytes once decompressed"


async def test_thousands_of_undecodable_records_become_one_dead_letter_each_and_block_nothing(
    embedded_kafka: str, database_url: str
) -> None:
    bad, good = flood(4000), 40
    with structlog.testing.capture_logs() as logs:
        async with toy(embedded_kafka, database_url, runtime_for()) as made:
            for n in range(good):
                await send(embedded_kafka, [*bad[100 * n : 100 * (n + 1)], request(n)], partition=n % PARTITIONS)
            await until(lambda: handled(made, *range(good)), within_s=40)
            await until(partial(committed, embedded_kafka))
            assert (made.runtime.unready(), made.runtime.unhealthy()) == (None, None)
            assert set((await made.commits()).values()) == {1}
    letters = [letter_of(record) for record in await read(embedded_kafka, DEAD_LETTERS.name, len(bad))]
    assert len(letters) == len(bad)
    assert len({(letter["partition"], letter["offset"]) for letter in letters}) == len(bad)
    told = [line for line in logs if line["event"] == "put into dead letters"]
    assert sum(line["count"] for line in told) == len(bad)
    assert len(told) < len(bad) / 10, "a line for each kind and batch"
    assert {line["kind"] for line in told} == {"Undecodable", "UnknownMajor"}


async def test_a_record_larger_than_any_message_is_not_read(embedded_kafka: str, database_url: str) -> None:
    await send_oversized(embedded_kafka, 5_000_000)
    await send(embedded_kafka, [request(1)])
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(lambda: handled(made, 1))
    (letter,) = map(letter_of, await read(embedded_kafka, DEAD_LETTERS.name, 1))
    assert letter["error"] == f"Oversized: 5000000 bytes of at most {MAX_MESSAGE_BYTES}"
    assert (letter["offset"], letter["left-out"]) == ("0", "headers,value,key")


async def test_a_failing_message_is_isolated_by_halving_retried_and_dead_lettered_in_order(
    embedded_kafka: str, database_url: str
) -> None:
    reasons = {7: "raise", 8: "nul", 21: "leak"}
    await send(embedded_kafka, [request(n, reasons.get(n)) for n in range(32)])
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(lambda: handled(made, 31))
        good = [n for n in range(32) if n not in reasons]
        assert await made.commits() == {job(n): 1 for n in good}
        assert list(await made.commits()) == [job(n) for n in good]
        assert len(made.calls[0]) == 32
        assert made.calls.count(["raise"]) == 3
        assert made.runtime.unhealthy() is None
    letters = {record.key: letter_of(record) for record in await read(embedded_kafka, DEAD_LETTERS.name, 3)}
    told = {n: (letters[job(n).encode()]["error"], letters[job(n).encode()]["tries"]) for n in reasons}
    assert told[7] == ("RuntimeError: a bug", "3")
    assert told[8][0].startswith("CharacterNotInRepertoireError: ")
    assert told[8][1] == "1", "the database's verdict on the data does not change"
    assert told[21] == ("LeakedCancellation: a cancellation leaked out of the handler", "3")
    assert len(letters) == 3
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}


async def test_a_message_too_large_for_a_dead_letter_does_not_block_its_partition(
    embedded_kafka: str, database_url: str
) -> None:
    wide = Record(REQUESTS.name, b"wide", b"x" * 1_500_000, (("big", b"\xff" * 500_000),))
    full = Record(REQUESTS.name, b"full", b"x" * (MAX_MESSAGE_BYTES - 500), ())
    await send(embedded_kafka, [wide, full, request(1)])
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(lambda: handled(made, 1))
    letters = await read(embedded_kafka, DEAD_LETTERS.name, 2)
    first, second = sorted(letters, key=lambda record: letter_of(record)["offset"])
    assert (first.key, first.value, letter_of(first)["left-out"]) == (b"wide", wide.value, "headers")
    assert (second.key, second.value, letter_of(second)["left-out"]) == (b"", b"", "headers,value,key")
    assert (letter_of(second)["topic"], letter_of(second)["offset"]) == (REQUESTS.name, "1")


@pytest_asyncio.fixture
async def own_postgres() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


async def test_while_postgres_is_unavailable_the_batch_is_retried_and_nothing_becomes_a_dead_letter(
    embedded_kafka: str, own_postgres: LocalPostgres
) -> None:
    async with toy(embedded_kafka, own_postgres.url, runtime_for()) as made:
        await send(embedded_kafka, [request(n) for n in range(50)])
        await until(lambda: handled(made, *range(50)))
        # Published rows that are not deleted yet would be published again.
        await until(lambda: published(made))
        await own_postgres.stop("immediate")
        calls = len(made.calls)
        await send(embedded_kafka, [request(n) for n in range(50, 100)])

        async def retried() -> bool:
            return len(made.calls) > calls + 2

        await until(retried)
        assert (made.runtime.unhealthy(), made.runtime.unready()) == (None, None)
        await own_postgres.start()
        await until(lambda: handled(made, *range(100)))
        assert len(await read(embedded_kafka, JOBS.name, 100)) == 100
    assert await read(embedded_kafka, DEAD_LETTERS.name, 0) == []
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}


async def test_while_a_batch_is_held_the_offsets_of_earlier_ones_are_committed(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_toy: Toy, _transaction: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setitem(toy_module.FAULTS, "away", away)
    monkeypatch.setattr(consumer_module, "BATCH_RECORDS", 1)
    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        assert made.consumer is not None
        now_s = 1000.0
        monkeypatch.setattr(made.consumer._offsets, "_clock", lambda: now_s)
        await send(embedded_kafka, [request(1), request(2), request(3, "away")])

        async def held() -> bool:
            return ["away"] in made.calls

        async def only_the_batch_in_hand_is_not_committed() -> bool:
            return (await lag(embedded_kafka, "toy", REQUESTS.name))[0] == 1

        await until(held)
        now_s += COMMIT_EVERY_S
        await until(only_the_batch_in_hand_is_not_committed)
        made.mended = True
        await until(partial(committed, embedded_kafka))


async def test_a_dead_letter_waits_for_kafka(database_url: str) -> None:
    sizes = {topic.name: PARTITIONS for topic in TOPICS}
    async with AsyncExitStack() as stack:
        async with kafka(sizes) as probe:
            port = int(probe.bootstrap_servers.rpartition(":")[2])
        async with kafka(sizes, port=port) as first:
            servers = first.bootstrap_servers
            made = await stack.enter_async_context(toy(servers, database_url, runtime_for()))
            await send(servers, [request(1, "wait"), Record(REQUESTS.name, b"key", b"garbage", GOOD_HEADERS)])

            async def waits() -> bool:
                return bool(made.calls)

            await until(waits)
        made.gate.set()
        await until(lambda: handled(made, 1))
        async with kafka(sizes, port=port):
            (letter,) = await read(servers, DEAD_LETTERS.name, 1)
            assert letter.value == b"garbage"
            assert made.runtime.unhealthy() is None
            await stack.aclose()


async def test_a_crash_between_the_transaction_and_the_offset_commit_repeats_the_batch_and_loses_nothing(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.kafka.outbox.RELAY_AGE_S", 0.4)
    await send(embedded_kafka, [request(1), request(2, "crash"), request(3)])
    toy_file = str(Path(toy_module.__file__))
    async with child(
        [sys.executable, toy_file, "toy"], name="toy", env=environment(embedded_kafka, database_url)
    ) as process:
        assert await asyncio.wait_for(process.wait(), patient(60)) == 9
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0, 3}
    assert await read(embedded_kafka, JOBS.name, 0) == []

    async with toy(embedded_kafka, database_url, runtime_for(), mended=True) as made:

        async def repeated() -> bool:
            return await made.commits() == {job(1): 2, job(2): 2, job(3): 2}

        await until(repeated)
        # The relay publishes once what the crash left in the outbox.
        told = await read(embedded_kafka, JOBS.name, 3)
        assert sorted(record.key or b"" for record in told) == sorted(job(n).encode() for n in (1, 2, 3))

        async def delivered() -> bool:
            return await made.waiting() == 0

        await until(delivered)
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}
