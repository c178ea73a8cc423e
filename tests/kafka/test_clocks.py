"""Acceptance deadlines on a real Apache Kafka: the timestamps of its brokers count, whichever other clock is wrong."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.chassis.toy import read, until
from tests.gateway.conftest import World, world_on

from contracts.envelope import Envelope, decode
from contracts.messages.jobs import JobAccepted, JobFailed
from contracts.topics import JOBS, REQUESTS
from gateway.clocks import Clocks
from segue_cli.local.process import child

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

EXACT = timedelta(seconds=6)
"""The longest time from a request to its timestamp; it is longer for a topic that was just created."""


@asynccontextmanager
async def orchestrator(servers: str, database_url: str, folder: Path) -> AsyncIterator[None]:
    """The orchestrator as a process of its own, with a correct clock."""
    env = {"KAFKA_BOOTSTRAP_SERVERS": servers, "DATABASE_URL": database_url, "PATH": os.defpath}
    argv = [sys.executable, "-m", "orchestrator"]
    async with child(argv, name="orchestrator", env=env, cwd=str(folder)):
        yield


async def messages(servers: str, topic: str, count: int) -> list[Any]:
    """The first messages on a topic, in order, each with the timestamp of the broker."""
    found = []
    for record in await read(servers, topic, count):
        envelope = decode(record.headers, record.value)
        assert isinstance(envelope, Envelope)
        found.append((envelope.message, datetime.fromtimestamp(record.timestamp / 1000, UTC)))
    return found


@pytest.mark.parametrize("off_by_s", [-20.0, 20.0, -600.0, 600.0])
async def test_with_a_wrong_clock_of_the_gateway_no_job_is_late(
    servers: str, database_url: str, tmp_path: Path, off_by_s: float
) -> None:
    def wall() -> float:
        return time.time() + off_by_s

    async with (
        orchestrator(servers, database_url, tmp_path),
        world_on(servers, database_url, tmp_path, wall=wall) as world,
    ):
        answers = [await world.post(idempotency_key=f"{n}") for n in range(15)]
        assert {answer.status_code for answer in answers} == {202}
        for request, arrived_at in await messages(servers, REQUESTS.name, 15):
            assert arrived_at <= request.accept_by <= arrived_at + timedelta(seconds=15) + EXACT
            assert abs(request.deadline_at - arrived_at - timedelta(seconds=1800)) < EXACT
        events = [message for message, _ in await messages(servers, JOBS.name, 15)]
        assert {type(event) for event in events} == {JobAccepted}
        await until(lambda: warned(world))


async def warned(world: World) -> bool:
    page = (await world.client.get("/readyz")).json()
    return any("the database's and" in warning and "Kafka's" in warning for warning in page.get("warnings", []))


async def test_a_request_that_is_late_by_kafkas_clock_is_sent_again_by_kafkas_clock(
    servers: str, database_url: str, tmp_path: Path
) -> None:
    async with (
        orchestrator(servers, database_url, tmp_path),
        world_on(servers, database_url, tmp_path) as world,
    ):
        clocks: Clocks = world.parts.clocks
        now_s = clocks.steady()
        # Until a broker has sent a timestamp, the clock of the database counts.
        clocks.learn("database", time.time() - 60, now_s, now_s)
        answer = await world.post(idempotency_key="the first one")
        assert answer.status_code == 202
        (late, late_at), (again, again_at) = await messages(servers, REQUESTS.name, 2)
        assert late.job_id == again.job_id == answer.json()["job_id"]
        assert late_at > late.accept_by
        assert again_at <= again.accept_by
        events = [message for message, _ in await messages(servers, JOBS.name, 2)]
        assert isinstance(events[0], JobFailed)
        assert isinstance(events[1], JobAccepted)

        async def accepted() -> bool:
            job = (await world.client.get(answer.json()["links"]["job"])).json()
            # The end of the late request is never shown: a client that believes it orders the same anew.
            assert (job["status"], job["error"], job["finished_at"]) == ("queued", None, None)
            return job["provider"] is not None

        await until(accepted)
        assert (await world.post(idempotency_key="the second one")).status_code == 202
        assert len(await messages(servers, REQUESTS.name, 3)) == 3


async def test_a_request_that_is_late_by_every_clock_is_refused(
    servers: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world_on(servers, database_url, tmp_path) as world:
        # As with brokers whose clocks differ: the time learned from one is wrong for the next.
        monkeypatch.setattr(Clocks, "kafka_now", lambda _clocks: datetime.now(UTC) - timedelta(minutes=1))
        answer = await world.post(idempotency_key="judge me")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:clocks-differ")
        assert answer.json()["idempotency_key"] == answer.headers["idempotency-key"] == "judge me"
        assert int(answer.headers["retry-after"]) > 0
        assert "is not run and costs nothing" in answer.json()["detail"]
        first, second = await messages(servers, REQUESTS.name, 2)
        assert first[0].job_id == second[0].job_id
        # A request that arrived too late does not count as accepted, however soon it is repeated.
        assert (await world.client.get(f"/api/jobs/{first[0].job_id}")).status_code == 404
        monkeypatch.undo()
        assert (await world.post(idempotency_key="judge me")).status_code == 202
        request, arrived_at = (await messages(servers, REQUESTS.name, 3))[-1]
        assert request.job_id == first[0].job_id
        assert arrived_at <= request.accept_by
