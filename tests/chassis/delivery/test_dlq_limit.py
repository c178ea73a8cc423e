"""A handler that fails on most messages: consuming pauses where it is, probes by itself, and goes on once it can."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import count

import pytest
import structlog
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, toy, until

from chassis.delivery.dlq_limit import DlqLimit, DlqLimitExceeded
from chassis.observability.metrics import DLQ_LIMIT_EXCEEDED
from contracts.topics import DEAD_LETTERS, REQUESTS

BURIED = 11
"""So many of the messages that fail after ten that do not are buried before the limit of these tests is exceeded."""


def limit() -> DlqLimit:
    return DlqLimit(window=20, least=10, first_pause_s=0.3, longest_pause_s=0.6)


def exceeded() -> bool:
    return bool(DLQ_LIMIT_EXCEEDED.labels("toy")._value.get())


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


async def paused(made: Toy) -> bool:
    return made.runtime.unready() is not None


async def well(made: Toy) -> bool:
    return made.runtime.unready() is None


async def all_committed(servers: str) -> bool:
    return set((await lag(servers, "toy", REQUESTS.name)).values()) == {0}


async def probed(made: Toy, calls: int, times: int) -> bool:
    """Whether the handler was given a message so many times since there had been `calls`."""
    return len(made.calls) >= calls + times


async def test_a_service_that_fails_pauses_says_so_and_goes_on_by_itself_once_it_is_well(
    embedded_kafka: str, database_url: str
) -> None:
    await send(embedded_kafka, [request(n, "raise" if n >= 10 else None) for n in range(400)])
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        assert "the handler failed on most of the last messages (RuntimeError)" in str(made.runtime.unready())
        assert made.runtime.unhealthy() is None
        assert exceeded()
        calls = len(made.calls)
        await until(lambda: probed(made, calls, 3))
        assert made.calls[calls:] == [["raise"]] * len(made.calls[calls:]), "one message at a time"
        assert len(await read(embedded_kafka, DEAD_LETTERS.name, BURIED)) == BURIED
        assert sum((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == 400 - 10 - BURIED

        made.mended = True
        await until(lambda: handled(made, *range(10), *range(10 + BURIED, 400)))
        await until(lambda: well(made))
        assert made.runtime.unhealthy() is None
        assert not exceeded()
        assert set((await made.commits()).values()) == {1}
    assert len(await read(embedded_kafka, DEAD_LETTERS.name, BURIED)) == BURIED
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}


async def test_restarts_do_not_move_the_topic_into_the_dead_letters(embedded_kafka: str, database_url: str) -> None:
    await send(embedded_kafka, [request(n, "raise") for n in range(300)])
    for starts in (1, 2):
        async with toy(embedded_kafka, database_url, runtime_for(), limit=DlqLimit()) as made:
            await until(partial(paused, made))
        assert len(await read(embedded_kafka, DEAD_LETTERS.name, 0)) == 10 * starts


async def test_what_cannot_be_decoded_is_buried_while_the_next_message_to_probe_is_looked_for(
    embedded_kafka: str, database_url: str
) -> None:
    bad = request(0).__class__(REQUESTS.name, b"key", b"garbage", request(0).headers)
    await send(embedded_kafka, [request(n, "raise") for n in range(10)])
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        with structlog.testing.capture_logs() as logs:
            await send(embedded_kafka, [*[bad] * 500, request(10)])
            await until(lambda: handled(made, 10))
            await until(lambda: well(made))
    assert len(await read(embedded_kafka, DEAD_LETTERS.name, 510)) == 510
    assert len([line for line in logs if line["event"] == "put into dead letters"]) < 20


async def test_a_partition_full_of_messages_that_fail_does_not_keep_the_others_from_proving_the_service_well(
    embedded_kafka: str, database_url: str
) -> None:
    await send(embedded_kafka, [request(n, "raise") for n in range(25)], partition=0)
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        await send(embedded_kafka, [request(n) for n in range(100, 120)], partition=1)
        await send(embedded_kafka, [request(n) for n in range(120, 140)], partition=2)
        await until(lambda: handled(made, *range(100, 140)))
        # Of those that fail some may be left, at which it pauses again: it gets past them as others go on arriving.
        later = count(140)

        async def got_past_them() -> bool:
            await send(embedded_kafka, [request(next(later))], partition=1)
            return (await lag(embedded_kafka, "toy", REQUESTS.name))[0] == 0

        await until(got_past_them)
        await until(partial(all_committed, embedded_kafka))
        await until(lambda: well(made))
    assert len(await read(embedded_kafka, DEAD_LETTERS.name, 25)) == 25


async def test_whoever_restarts_processes_hears_of_a_limit_that_stays_exceeded(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(embedded_kafka, [request(n, "raise") for n in range(11)])
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        assert made.runtime.unhealthy() is None
        monkeypatch.setattr("chassis.delivery.dlq_limit.EXCEEDED_LIMIT_S", 0.1)

        async def unhealthy() -> bool:
            return made.runtime.unhealthy() is not None

        await until(unhealthy)
        assert "the handler has failed on every message for over" in str(made.runtime.unhealthy())


async def test_without_a_message_to_probe_nothing_is_known_and_the_process_lives_on(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.delivery.dlq_limit.EXCEEDED_LIMIT_S", 0.0)
    await send(embedded_kafka, [request(n, "raise") for n in range(10)])
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        assert made.consumer is not None
        looked_at = made.consumer._limit

        async def over() -> bool:
            return looked_at.wait_s(time.monotonic()) == 0

        await until(over)
        assert made.runtime.unready() is not None
        assert made.runtime.unhealthy() is None
        await send(embedded_kafka, [request(10)], partition=1)
        await until(lambda: handled(made, 10))
        await until(lambda: well(made))
        assert made.runtime.unhealthy() is None


@pytest.mark.parametrize(
    ("outcomes", "over"),
    [
        ([True] * 9, False),
        ([True] * 10, True),
        ([True] * 5 + [False] * 5, False),
        ([True, False] * 500, False),
        ([False] * 1000 + [True] * 100, False),
        ([False] * 1000 + [True] * 101, True),
    ],
)
def test_the_limit_looks_at_the_last_messages(outcomes: Sequence[bool], over: bool) -> None:
    looked_at = DlqLimit()
    if over:
        with pytest.raises(DlqLimitExceeded):
            looked_at.note(outcomes)
    else:
        looked_at.note(outcomes)


def test_pauses_grow_up_to_five_minutes_and_start_small_again_after_a_hundred_good_messages() -> None:
    looked_at = DlqLimit()
    assert looked_at.wait_s(0) == 0
    assert [looked_at.pause(n, 1.0) for n in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (looked_at.since, looked_at.failed_probes) == (0, 7)
    assert looked_at.wait_s(10) == 297
    assert looked_at.wait_s(400) == 0
    looked_at.resume()
    assert looked_at.since is None
    looked_at.note([False] * 50)
    assert looked_at.pause(500, 1.0) == 300, "exceeded again soon after"
    looked_at.resume()
    looked_at.note([False] * 100)
    assert looked_at.pause(600, 1.2) == 6
    assert looked_at.failed_probes == 0
