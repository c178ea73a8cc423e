"""Hostile records in every topic while jobs run: every job succeeds, and every group reads on."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from tests.builders import attempt_event, job_requested

from contracts.envelope import Record, encode
from contracts.failures import FailureKind
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import AttemptFailed
from contracts.messages.callbacks import CallbackReceived
from contracts.modalities.music import MusicInput
from contracts.topics import ATTEMPTS, CALLBACKS, REQUESTS, TOPICS, Topic
from orchestrator.log_events import OrchestratorEvent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import System

HOSTILE = int(os.environ.get("SEGUE_TEST_HOSTILE") or 3_000)
"""Records written to each topic; the full test writes 50,000 while 200 jobs run."""
JOBS = int(os.environ.get("SEGUE_TEST_JOBS") or 30)
SIZE = max(1.0, HOSTILE / 3_000, JOBS / 30)
"""The factor by which time limits are longer than with the defaults above."""
LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600 * SIZE)]

CONSUMED = [topic for topic in TOPICS if topic.groups]


def undecodable(topic: Topic) -> list[Record]:
    """Small records of every kind that cannot be decoded."""
    known = topic.carries[0].TYPE.encode()
    typed = (("ce_id", b"1"), ("ce_type", known), ("ce_source", b"/evil"))
    name = known.rpartition(b".v")[0]
    made: list[tuple[bytes, tuple[tuple[str, bytes], ...]]] = [
        (b"{}", ()),
        (b"{}", (("ce_type", b"\xff\xfe"), ("ce_id", b"1"))),
        (b"\x00\x01 not json", typed),
        (b'{"job_id": "', typed),
        (b'{"job_id": 7, "occurred_at": []}', typed),
        (json.dumps({"job_id": "x" * 2_000}).encode(), typed),
        (json.dumps({name: [{}] * 200 for name in ("plan", "attempts", "artifacts", "providers")}).encode(), typed),
        (b"{}", (("ce_id", b"1"), ("ce_type", name + b".v99"))),
    ]
    return [Record(topic.name, b"", value, headers) for value, headers in made]


def absurd(topic: Topic, n: int) -> Record | None:
    """The n-th message that can be decoded and is about an unknown job, or one whose deadline passed long ago."""
    job_id = job_id_for("stranger", str(n))
    attempt_id = attempt_id_for(job_id, 1)
    if topic is REQUESTS:
        given = MusicInput(prompt="\u202e\x1b[31m")
        asked = job_requested(job_id, LONG_AGO, tenant=f"stranger {n}", input=given, deadline_at=LONG_AGO)
        return encode(asked, source="evil", traceparent=None)
    if topic is CALLBACKS:
        callback = CallbackReceived(
            job_id=job_id,
            occurred_at=LONG_AGO,
            attempt_id=attempt_id,
            provider="fal",
            delivery_id=str(n),
            body="\u202e{",
        )
        return encode(callback, source="evil", traceparent=None)
    if topic is ATTEMPTS:
        fault = {"kind": FailureKind.UNKNOWN, "message": "\u202e", "accepted": False}
        failed = attempt_event(AttemptFailed, job_id, 1, 1, LONG_AGO, **fault)
        return encode(failed, source="evil", traceparent=None)
    return None


def flood(topic: Topic, count: int) -> Iterator[tuple[Record, int | None, bool]]:
    """Records for a topic: each with its partition if one is fixed, and whether it becomes a dead letter."""
    kinds = undecodable(topic)
    for n in range(count):
        decodable = absurd(topic, n) if n % 10 == 0 else None
        yield decodable or kinds[n % len(kinds)], 0 if n % 2 else None, decodable is None


async def write_hostile(servers: str, count: int) -> Counter[str]:
    """Write `count` hostile records to each topic; returns, by topic, how many have to become dead letters."""
    dead: Counter[str] = Counter()

    async def write(topic: Topic) -> None:
        async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=20, max_batch_size=1 << 18) as producer:
            last: asyncio.Future[object] | None = None
            for record, partition, is_dead in flood(topic, count):
                dead[topic.name] += is_dead
                key = record.key or str(dead[topic.name]).encode()
                last = await producer.send(
                    topic.name, record.value, key=key, partition=partition, headers=list(record.headers)
                )
            if last is not None:
                await last

    await asyncio.gather(*(write(topic) for topic in CONSUMED))
    return dead


@pytest_asyncio.fixture
async def attacked(tmp_path: Path) -> AsyncIterator[System]:
    """A system of its own on Apache Kafka, with a longer session timeout than in other tests."""
    from tests.e2e.conftest import system_on

    async with system_on("apache", tmp_path, {"SEGUE_KAFKA_SESSION_TIMEOUT_S": "30"}) as system:
        yield system


async def test_thousands_of_hostile_records_in_every_topic_stop_no_job(attacked: System) -> None:
    system = attacked
    began = time.monotonic()
    writing = asyncio.create_task(write_hostile(system.kafka, HOSTILE))
    jobs = [await system.submit(f"among strangers {n}") for n in range(JOBS)]
    ended = [await system.ended(job, within_s=120 * SIZE) for job in jobs]
    ended_s = time.monotonic() - began
    assert {job["status"] for job in ended} == {"succeeded"}
    await system.assert_paid_once(ended, "among strangers")

    dead = await writing
    expected = sum(dead[topic.name] * len(topic.groups) for topic in CONSUMED)

    async def all_read() -> bool:
        return not await system.lag()

    await system.until("all is read", all_read, 120 * SIZE)
    read_s = time.monotonic() - began
    letters = await system.dead_letters()
    recorded = {(letter.service, letter.topic, letter.partition, letter.offset) for letter in letters}
    assert len(recorded) == expected, "one for each record and service that reads it"
    print(f"{len(ended)} jobs ended in {ended_s:.0f} s, all was read in {read_s:.0f} s, {len(recorded)} dead letters")
    await system.until_ready()
    lines = [line for log in system.logs().values() for line in log.splitlines()]
    assert len([line for line in lines if "put into dead letters" in line]) < expected / 20
    ignored = (OrchestratorEvent.REQUEST_EXPIRED, "unknown attempts")
    assert len([line for line in lines if any(text in line for text in ignored)]) < expected / 100
