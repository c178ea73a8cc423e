"""The pause between two polls."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from tests.chassis.toy import request, runtime_for, send, toy, until

from chassis.delivery import polling
from chassis.delivery.polling import ENOUGH, GATHER_S, MANY, PollPause
from chassis.delivery.tail import Tail
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope
from contracts.topics import PARTITIONS, REQUESTS

RECORDS = MANY * PARTITIONS
"""Some partition has so many of them that one poll returns `MANY`."""


@pytest.mark.parametrize(
    ("records", "limit", "pauses"),
    [
        (0, 1000, []),
        (MANY - 1, 1000, []),
        (MANY, 1000, [GATHER_S]),
        (ENOUGH - 1, 1000, [GATHER_S]),
        (ENOUGH, 1000, []),
        (MANY, MANY, []),
        (MANY, MANY + 1, [GATHER_S]),
    ],
)
async def test_records_gather_while_several_jobs_go_on_and_nothing_waits(
    monkeypatch: pytest.MonkeyPatch, records: int, limit: int, pauses: list[float]
) -> None:
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pause = PollPause()
    await pause.wait()
    assert found == []
    pause.note(records, limit)
    await pause.wait()
    assert found == pauses


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Before each poll: whether it waits. A batch of any size is one that others may join."""
    waited: list[bool] = []
    wait = PollPause.wait

    async def noted(pause: PollPause) -> None:
        waited.append(pause._many)
        await wait(pause)

    monkeypatch.setattr(PollPause, "wait", noted)
    monkeypatch.setattr(polling, "ENOUGH", 10 * RECORDS)
    return waited


def ended(waits: list[bool]) -> bool:
    """Whether there was a wait, and none before the last poll: what a poll returned counts before the next one only."""
    return True in waits and not waits[-1]


async def test_a_consumer_waits_after_many_records_and_not_before(
    embedded_kafka: str, database_url: str, waits: list[bool]
) -> None:
    await send(embedded_kafka, [request(n) for n in range(RECORDS)])

    async def done() -> bool:
        return len(set(await made.commits())) == RECORDS and ended(waits)

    async with toy(embedded_kafka, database_url, runtime_for()) as made:
        await until(done)
    assert waits[0] is False


async def test_a_tail_waits_after_many_records_and_not_before(embedded_kafka: str, waits: list[bool]) -> None:
    await send(embedded_kafka, [request(n) for n in range(RECORDS)])
    taken: list[Envelope] = []

    async def done() -> bool:
        return len(taken) >= RECORDS and ended(waits)

    def take(envelope: Envelope, _arrived_at: datetime | None) -> None:
        taken.append(envelope)

    async with Tail(KafkaCluster(embedded_kafka), (REQUESTS,), take, runtime_for("tailing")).running():
        await until(done)
    assert waits[0] is False
