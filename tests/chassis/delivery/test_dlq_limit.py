"""A handler that fails on most messages: consuming pauses, sends probes, and resumes once one succeeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import count

import pytest
import structlog
from prometheus_client import REGISTRY
from tests.chassis.toy import Toy, job, lag, read, request, runtime_for, send, toy, until

from chassis.delivery.dlq_limit import DlqLimit, DlqLimitExceeded
from contracts.topics import DEAD_LETTERS, REQUESTS

DEAD_LETTERED = 11
"""The number of failing messages, after ten that succeed, that become dead letters before the limit is exceeded."""


def limit() -> DlqLimit:
    return DlqLimit(window=20, least=10, first_pause_s=0.3, longest_pause_s=0.6)


def exceeded() -> bool:
    return bool(REGISTRY.get_sample_value("segue_dlq_limit_exceeded", {"group": "toy"}))


async def handled(made: Toy, *expected: int) -> bool:
    return set(await made.commits()) >= {job(n) for n in expected}


async def paused(made: Toy) -> bool:
    return made.runtime.unready() is not None


async def ready(made: Toy) -> bool:
    return made.runtime.unready() is None


async def all_committed(servers: str) -> bool:
    return set((await lag(servers, "toy", REQUESTS.name)).values()) == {0}


async def probed(made: Toy, calls: int, times: int) -> bool:
    """Whether the handler was called at least `times` more often than `calls`."""
    return len(made.calls) >= calls + times


async def test_a_failing_service_pauses_is_unready_and_resumes_by_itself(
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
        assert len(await read(embedded_kafka, DEAD_LETTERS.name, DEAD_LETTERED)) == DEAD_LETTERED
        assert sum((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == 400 - 10 - DEAD_LETTERED

        made.mended = True
        await until(lambda: handled(made, *range(10), *range(10 + DEAD_LETTERED, 400)))
        await until(lambda: ready(made))
        assert made.runtime.unhealthy() is None
        assert not exceeded()
        assert set((await made.commits()).values()) == {1}
    assert len(await read(embedded_kafka, DEAD_LETTERS.name, DEAD_LETTERED)) == DEAD_LETTERED
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}


async def test_restarts_do_not_move_the_topic_to_the_dead_letters(embedded_kafka: str, database_url: str) -> None:
    await send(embedded_kafka, [request(n, "raise") for n in range(300)])
    for starts in (1, 2):
        async with toy(embedded_kafka, database_url, runtime_for(), limit=DlqLimit()) as made:
            await until(partial(paused, made))
        assert len(await read(embedded_kafka, DEAD_LETTERS.name, 0)) == 10 * starts


async def test_undecodable_messages_become_dead_letters_while_the_next_probe_is_sought(
    embedded_kafka: str, database_url: str
) -> None:
    bad = request(0).__class__(REQUESTS.name, b"key", b"garbage", request(0).headers)
    await send(embedded_kafka, [request(n, "raise") for n in range(10)])
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        with structlog.testing.capture_logs() as logs:
            await send(embedded_kafka, [*[bad] * 500, request(10)])
            await until(lambda: handled(made, 10))
            await until(lambda: ready(made))
    assert len(await read(embedded_kafka, DEAD_LETTERS.name, 510)) == 510
    assert len([line for line in logs if line["event"] == "put into dead letters"]) < 20


async def test_a_partition_full_of_failing_messages_does_not_block_probes_of_the_others(
    embedded_kafka: str, database_url: str
) -> None:
    await send(embedded_kafka, [request(n, "raise") for n in range(25)], partition=0)
    async with toy(embedded_kafka, database_url, runtime_for(), limit=limit()) as made:
        await until(lambda: paused(made))
        await send(embedded_kafka, [request(n) for n in range(100, 120)], partition=1)
        await send(embedded_kafka, [request(n) for n in range(120, 140)], partition=2)
        await until(lambda: handled(made, *range(100, 140)))
        # If some failing messages are left, it pauses at them again, and passes them as others arrive.
        later = count(140)

        async def all_consumed() -> bool:
            await send(embedded_kafka, [request(next(later))], partition=1)
            return (await lag(embedded_kafka, "toy", REQUESTS.name))[0] == 0

        await until(all_consumed)
        await until(partial(all_committed, embedded_kafka))
        await until(lambda: ready(made))
    assert len(await read(embedded_kafka, DEAD_LETTERS.name, 25)) == 25


async def test_a_process_whose_limit_stays_exceeded_becomes_unhealthy(
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


async def test_without_a_message_to_probe_the_process_stays_healthy(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.delivery.dlq_limit.EXCEEDED_LIMIT_S", 0.0)
    await send(embedded_kafka, [request(n, "raise") for n in range(10)])
    in_use = limit()
    async with toy(embedded_kafka, database_url, runtime_for(), limit=in_use) as made:
        await until(lambda: paused(made))

        async def pause_over() -> bool:
            return in_use.wait_s(time.monotonic()) == 0

        await until(pause_over)
        assert made.runtime.unready() is not None
        assert made.runtime.unhealthy() is None
        await send(embedded_kafka, [request(10)], partition=1)
        await until(lambda: handled(made, 10))
        await until(lambda: ready(made))
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
def test_the_limit_applies_to_the_last_messages(outcomes: Sequence[bool], over: bool) -> None:
    dlq_limit = DlqLimit()
    if over:
        with pytest.raises(DlqLimitExceeded):
            dlq_limit.note(outcomes)
    else:
        dlq_limit.note(outcomes)


def test_pauses_grow_to_five_minutes_and_start_again_after_a_hundred_good_messages() -> None:
    dlq_limit = DlqLimit()
    assert dlq_limit.wait_s(0) == 0
    assert [dlq_limit.pause(n, 1.0) for n in range(8)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (dlq_limit.since, dlq_limit.failed_probes) == (0, 7)
    assert dlq_limit.wait_s(10) == 297
    assert dlq_limit.wait_s(400) == 0
    dlq_limit.resume()
    assert dlq_limit.since is None
    dlq_limit.note([False] * 50)
    assert dlq_limit.pause(500, 1.0) == 300, "exceeded again soon after"
    dlq_limit.resume()
    dlq_limit.note([False] * 100)
    assert dlq_limit.pause(600, 1.2) == 6
    assert dlq_limit.failed_probes == 0
