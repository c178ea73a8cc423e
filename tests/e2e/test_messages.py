"""Undecodable records, expired requests, and bursts of requests."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tests.builders import job_requested

from contracts.envelope import encode
from contracts.ids import job_id_for
from contracts.modalities.music import MusicInput
from contracts.topics import TOPICS

if TYPE_CHECKING:
    from tests.e2e.conftest import DeadLetter, System

pytestmark = pytest.mark.asyncio(loop_scope="session")

Headers = tuple[tuple[str, bytes | None], ...]
BURST = 500
CONSUMED = [topic for topic in TOPICS if topic.groups]


def typed(name: str) -> Headers:
    return (("ce_id", b"6f1c4a3e-0000-4000-8000-000000000001"), ("ce_type", name.encode()), ("ce_source", b"/evil"))


def garbage(known: str) -> dict[str, tuple[bytes | None, Headers]]:
    """One of each kind of wrong record for a topic that carries the type `known`."""
    nested = b'{"job_id":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    name, _, _ = known.rpartition(".v")
    return {
        "no headers": (b"{}", ()),
        "a header that is no text": (b"{}", (("ce_type", b"\xff\xfe"), ("ce_id", b"1"))),
        "a null header": (b"{}", (("ce_type", None), ("ce_id", b"1"))),
        "a null value": (None, typed(known)),
        "no JSON": (b"\x00\x01 not json", typed(known)),
        "half a document": (b'{"job_id": "', typed(known)),
        "wrong types": (b'{"job_id": 7, "occurred_at": []}', typed(known)),
        "NUL": (b'{"job_id": "\\u0000"}', typed(known)),
        "deep": (nested, typed(known)),
        "large": (json.dumps({"job_id": "x" * 300_000}).encode(), typed(known)),
        "a later major version": (b"{}", typed(f"{name}.v99")),
        "a foreign type": (b"{}", typed("com.example.thing.v1")),
    }


def records_of(letters: Sequence[DeadLetter]) -> Counter[tuple[str, str, int, int]]:
    """How many dead letters each service has written for each record."""
    return Counter((each.service, each.topic, each.partition, each.offset) for each in letters)


async def test_an_undecodable_record_becomes_one_dead_letter_of_each_group_and_stops_no_job(system: System) -> None:
    before = records_of(await system.dead_letters())
    expected: Counter[tuple[str, str, int, int]] = Counter()
    for topic in CONSUMED:
        for kind, (value, headers) in garbage(topic.carries[0].TYPE).items():
            partition, offset = await system.produce(topic.name, value, b"\xff" + kind.encode(), headers)
            expected.update((service, topic.name, partition, offset) for service in topic.groups)

    async def written() -> bool:
        return (records_of(await system.dead_letters()) - before).total() >= expected.total()

    job = await system.ended(await system.submit("after the garbage"))
    assert job["status"] == "succeeded"
    await system.until("all dead letters are written", written)

    async def committed() -> bool:
        return await system.lag() == {}

    await system.until("all has been committed", committed)
    letters = await system.dead_letters()
    assert records_of(letters) - before == expected
    assert all(letter.error for letter in letters)
    await system.until_ready()


async def test_an_expired_request_fails_and_is_never_sent(system: System) -> None:
    now = datetime.now(UTC)
    job_id = job_id_for("default", "too late for anything")
    asked = MusicInput(prompt="an expired request", duration_s=2)
    request = job_requested(job_id, now - timedelta(seconds=60), input=asked)
    record = encode(request, source="gateway", traceparent=None)
    await system.produce(record.topic, record.value, record.key, record.headers)

    async def failed() -> bool:
        answer = await system.api.get(f"/api/jobs/{job_id}")
        return answer.status_code == 200 and answer.json()["status"] == "failed"

    await system.until("the job has failed", failed)
    job = await system.ended(job_id)
    assert (job["error"]["kind"], job["attempts"]) == ("expired", [])
    assert await system.posts("an expired request") == []


@pytest_asyncio.fixture(loop_scope="session")
async def with_default_timeouts(system: System) -> AsyncIterator[System]:
    """The system, with the default timeouts of the adapters: on a slow machine, providers answer late."""
    adapters = ("fal-adapter", "replicate-adapter")
    await system.kill(*adapters)
    await system.start(*adapters, SEGUE_SUBMIT_TIMEOUT_S="30", SEGUE_SUBMIT_GRACE_S="120", SEGUE_START_DEADLINE_S="120")
    yield system
    await system.kill(*adapters)
    await system.start(*adapters)


@pytest.mark.timeout(400)
async def test_every_request_of_a_burst_is_accepted_in_the_end_and_its_job_succeeds(
    with_default_timeouts: System,
) -> None:
    system = with_default_timeouts
    ids = await asyncio.gather(*(system.submit(f"burst {n}", within_s=180) for n in range(BURST)))
    assert len(set(ids)) == BURST
    await system.until_idle()
    jobs = [await system.ended(job_id) for job_id in ids]
    assert Counter(job["status"] for job in jobs) == {"succeeded": BURST}
    await system.assert_paid_once(jobs, "burst ")
