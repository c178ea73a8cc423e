"""A gateway whose clock is wrong, or is set while it runs: it uses the clocks of others, and reports the difference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from tests.gateway.test_callbacks import SECRET, Signer
from tests.patience import patient

from chassis.http.server import serve_http
from contracts.callback_urls import callback_url
from contracts.envelope import Envelope, decode
from contracts.ids import AttemptId, attempt_id_for, job_id_for
from contracts.messages.callbacks import CallbackReceived
from contracts.messages.requests import CancelRequested, JobRequested
from contracts.topics import CALLBACKS, PARTITIONS, REQUESTS, Topic
from gateway import clocks
from gateway.clocks import Clocks, Reading, better, reading
from gateway.context import TENANT
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import LocalPostgres, postgres

OFF_BY_S = [20.0, -20.0, 600.0, -600.0, 86_400.0]
EXACT_S = 1.0
"""The tolerance for a time on a slow machine."""


# The estimate from readings of other clocks.


def test_a_clock_is_known_to_within_half_of_what_the_answer_took() -> None:
    known = reading(1_000.5, sent_s=10.0, received_s=11.0)
    assert known == Reading(offset_s=990.0, error_s=0.5, at_s=11.0)


@pytest.mark.parametrize(
    ("new", "is_taken"),
    [
        (Reading(100.0, 0.01, 20.0), True),  # More exact.
        (Reading(100.3, 0.5, 20.0), False),  # Less exact, and consistent.
        (Reading(100.3, 0.5, 2_000.0), True),  # The error of the old one has grown as large.
        (Reading(160.0, 0.5, 20.0), True),  # The clock was set: both cannot be right.
        (Reading(40.0, 0.5, 20.0), True),
    ],
)
def test_the_more_exact_reading_is_used(new: Reading, *, is_taken: bool) -> None:
    known = Reading(100.0, 0.1, 10.0)
    assert better(known, new) is (new if is_taken else known)
    assert better(None, new) is new


class Machine:
    """The clocks of a machine, set by a test."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = 1_000_000.0, 50.0

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall_s, lambda: self.steady_s)

    def advance(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds


def unix(when: datetime) -> float:
    return when.timestamp()


def test_without_a_reading_the_own_clock_is_used() -> None:
    clocks_of_machine = Machine().clocks()
    assert (unix(clocks_of_machine.now()), unix(clocks_of_machine.kafka_now()), clocks_of_machine.outside_s()) == (
        1_000_000,
        1_000_000,
        1_000_000,
    )
    assert not clocks_of_machine.is_confirmed()
    assert clocks_of_machine.complaint() is None


def test_each_reference_has_its_own_time_and_replaces_a_missing_one() -> None:
    machine = Machine()
    clocks_of_machine = machine.clocks()
    clocks_of_machine.learn("database", 1_000_020.0, 50.0, 50.0)
    assert (unix(clocks_of_machine.now()), unix(clocks_of_machine.kafka_now())) == (1_000_020, 1_000_020)
    clocks_of_machine.learn("kafka", 1_000_005.0, 50.0, 50.0)
    assert (unix(clocks_of_machine.now()), unix(clocks_of_machine.kafka_now())) == (1_000_020, 1_000_005)
    machine.advance(30)
    assert (unix(clocks_of_machine.now()), unix(clocks_of_machine.kafka_now())) == (1_000_050, 1_000_035)


def test_setting_the_own_clock_changes_nothing() -> None:
    machine = Machine()
    clocks_of_machine = machine.clocks()
    clocks_of_machine.learn("database", 1_000_000.0, 50.0, 50.0)
    for step_s in (-20.0, 600.0, -86_400.0):
        machine.wall_s += step_s
        assert (unix(clocks_of_machine.now()), clocks_of_machine.outside_s()) == (1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("database_s", "kafka_s", "outside_s"),
    [(0.0, 0.0, 0.0), (600.0, 600.0, 600.0), (600.0, 0.0, 0.0), (0.0, -600.0, 0.0), (600.0, None, 600.0)],
)
def test_for_signatures_the_one_clock_that_differs_from_two_others_is_wrong(
    database_s: float, kafka_s: float | None, outside_s: float
) -> None:
    clocks_of_machine = Machine().clocks()
    clocks_of_machine.learn("database", 1_000_000.0 + database_s, 50.0, 50.0)
    if kafka_s is not None:
        clocks_of_machine.learn("kafka", 1_000_000.0 + kafka_s, 50.0, 50.0)
    assert clocks_of_machine.outside_s() == 1_000_000.0 + outside_s


def test_the_complaint_names_the_difference_and_the_reference() -> None:
    machine = Machine()
    clocks_of_machine = machine.clocks()
    clocks_of_machine.learn("database", 1_000_001.9, 50.0, 50.0)
    assert clocks_of_machine.complaint() is None
    clocks_of_machine.learn("kafka", 999_980.0, 50.0, 50.0)
    assert clocks_of_machine.complaint() == "this machine's clock is 20.0 s ahead of Kafka's; deadlines go by theirs"
    machine.wall_s -= 40
    assert clocks_of_machine.complaint() == (
        "this machine's clock is 41.9 s behind the database's and 20.0 s behind Kafka's; deadlines go by theirs"
    )
    assert REGISTRY.get_sample_value("segue_clock_difference_seconds", {"reference": "kafka"}) == 20.0


def test_the_difference_is_logged_at_most_once_a_minute() -> None:
    machine = Machine()
    clocks_of_machine = machine.clocks()
    with capture_logs() as logged:
        for _ in range(100):  # Two brokers, of which one is wrong.
            clocks_of_machine.learn("kafka", machine.wall_s, machine.steady_s, machine.steady_s)
            clocks_of_machine.learn("kafka", machine.wall_s + 20, machine.steady_s, machine.steady_s)
            machine.advance(1)
    assert [line["log_level"] for line in logged] == ["warning", "info"]


def test_a_difference_within_the_error_of_a_slow_answer_is_ignored() -> None:
    clocks_of_machine = Machine().clocks()
    clocks_of_machine.learn("database", 999_999.0, 40.0, 50.0)
    assert clocks_of_machine.complaint() is None


def test_a_clock_is_confirmed_for_a_minute() -> None:
    machine = Machine()
    clocks_of_machine = machine.clocks()
    clocks_of_machine.learn("database", 1_000_000.0, 50.0, 50.0)
    machine.advance(59)
    assert clocks_of_machine.is_confirmed()
    machine.advance(2)
    assert not clocks_of_machine.is_confirmed()
    # An answer that is too slow for a better reading confirms it too.
    clocks_of_machine.learn("database", machine.wall_s, machine.steady_s - 1, machine.steady_s)
    assert clocks_of_machine.is_confirmed()


# A gateway with a wrong clock.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


class SkewedClock:
    """A machine's clock that differs from the true time by `off_by_s`."""

    def __init__(self, off_by_s: float = 0.0) -> None:
        self.off_by_s = off_by_s

    def __call__(self) -> float:
        return time.time() + self.off_by_s


@asynccontextmanager
async def gateway_with(
    wall: SkewedClock, database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], folder: Path, **more: str
) -> AsyncIterator[tuple[Any, str]]:
    async with (
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, database.url, folder, wall=wall, **more) as world,
    ):
        yield world, cluster.bootstrap_servers


async def records(servers: str, topic: Topic) -> list[ConsumerRecord[bytes, bytes]]:
    places = [TopicPartition(topic.name, n) for n in range(PARTITIONS)]
    found: list[ConsumerRecord[bytes, bytes]] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
    ) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for some in (await consumer.getmany(timeout_ms=100)).values():
                found += some
    return found


def message_of(record: ConsumerRecord[bytes, bytes]) -> Any:
    envelope = decode(record.headers, record.value)
    assert isinstance(envelope, Envelope)
    return envelope.message


def is_now(when: datetime, since: datetime, plus_s: float = 0.0) -> bool:
    slack = timedelta(seconds=EXACT_S)
    return since - slack <= when - timedelta(seconds=plus_s) <= datetime.now(UTC) + slack


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("off_by_s", OFF_BY_S)
async def test_published_messages_have_the_true_times(
    off_by_s: float, database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], tmp_path: Path
) -> None:
    began = datetime.now(UTC)
    async with gateway_with(SkewedClock(off_by_s), database, world_on, topic_sizes, tmp_path) as (world, servers):
        key = f"off by {off_by_s}"
        accepted = await world.post({"prompt": "x", "deadline_s": 60}, idempotency_key=key)
        assert accepted.status_code == 202
        job_id = accepted.json()["job_id"]
        assert (await world.client.post(f"/api/jobs/{job_id}/cancel", headers={"prefer": "wait=0"})).status_code == 202
        listed = (await world.client.get("/api/jobs")).json()["jobs"]
        assert job_id in [job["id"] for job in listed]
        tracks = (await world.client.get("/api/tracks")).json()["tracks"]
        assert job_id in [track["job_id"] for track in tracks]
        found = {type(message_of(record)): record for record in await records(servers, REQUESTS)}
    request, record = message_of(found[JobRequested]), found[JobRequested]
    assert is_now(request.occurred_at, began)
    assert is_now(request.deadline_at, began, plus_s=60)
    assert is_now(request.accept_by, began, plus_s=15)
    assert is_now(datetime.fromtimestamp(record.timestamp / 1000, UTC), began)
    assert is_now(message_of(found[CancelRequested]).occurred_at, began)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("off_by_s", "how"), [(20.0, "20.0 s ahead of"), (-600.0, "600.0 s behind")])
async def test_the_readiness_page_and_the_metric_show_the_difference(
    off_by_s: float, how: str, database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], tmp_path: Path
) -> None:
    wall = SkewedClock(off_by_s)
    async with gateway_with(wall, database, world_on, topic_sizes, tmp_path) as (world, _servers):

        async def ready() -> Any:
            async with asyncio.timeout(patient(60)):
                while (page := await world.client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - its tail
                    await asyncio.sleep(0.02)
            return page.json()

        page = await ready()
        assert page["warnings"] == [f"this machine's clock is {how} the database's; deadlines go by theirs"]
        metric = REGISTRY.get_sample_value("segue_clock_difference_seconds", {"reference": "database"})
        assert metric == pytest.approx(off_by_s, abs=EXACT_S)
        wall.off_by_s = 0.0
        page = await ready()
        assert (page["status"], page.get("warnings")) == ("ok", None)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_clock_that_is_set_back_and_forth_under_load_changes_nothing(
    database: LocalPostgres, world_on: Any, topic_sizes: dict[str, int], tmp_path: Path
) -> None:
    began, wall = datetime.now(UTC), SkewedClock()
    async with gateway_with(wall, database, world_on, topic_sizes, tmp_path) as (world, servers):
        for off_by_s in (0.0, -20.0, 600.0, -600.0, 0.0, 20.0):
            wall.off_by_s = off_by_s
            posts = (world.post({"prompt": "x"}, idempotency_key=f"step {off_by_s} {n}") for n in range(20))
            assert {answer.status_code for answer in await asyncio.gather(*posts)} <= {202}
        found = await records(servers, REQUESTS)
    assert len(found) == 100  # Two steps use the same keys.
    assert all(is_now(message_of(record).accept_by, began, plus_s=15) for record in found)
    assert all(is_now(message_of(record).deadline_at, began, plus_s=1800) for record in found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signer() -> AsyncIterator[Signer]:
    made = Signer()
    async with serve_http(made.app(), "127.0.0.1", 0) as made.port:
        yield made


async def call(world: Any, signer: Signer, provider: Any, attempt: AttemptId, age_s: int) -> int:
    body = b"{}"
    headers = signer.headers(provider, body, age_s=age_s)
    answer = await world.client.post(callback_url("", SECRET, provider, attempt), content=body, headers=headers)
    status: int = answer.status_code
    return status


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("off_by_s", [*OFF_BY_S, 0.0])
async def test_the_age_of_a_callback_is_measured_by_the_true_time(
    off_by_s: float,
    database: LocalPostgres,
    signer: Signer,
    world_on: Any,
    topic_sizes: dict[str, int],
    tmp_path: Path,
) -> None:
    attempt, began = AttemptId(attempt_id_for(job_id_for(TENANT, "called back"), 1)), datetime.now(UTC)
    more = signer.settings()
    async with gateway_with(SkewedClock(off_by_s), database, world_on, topic_sizes, tmp_path, **more) as (
        world,
        servers,
    ):
        for provider in ("fal", "replicate"):
            assert await call(world, signer, provider, attempt, age_s=0) == 204
            assert await call(world, signer, provider, attempt, age_s=240) == 204
            assert await call(world, signer, provider, attempt, age_s=400) == 401
            assert await call(world, signer, provider, attempt, age_s=-400) == 401
            assert await call(world, signer, provider, attempt, age_s=600) == 401
        taken = [message_of(record) for record in await records(servers, CALLBACKS)]
    assert [type(message) for message in taken] == [CallbackReceived] * 4
    assert all(is_now(message.occurred_at, began) for message in taken)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unconfirmed_clock_does_not_refuse_a_callback_for_its_age(
    database: LocalPostgres,
    signer: Signer,
    world_on: Any,
    topic_sizes: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt, more = AttemptId(attempt_id_for(job_id_for(TENANT, "unconfirmed"), 1)), signer.settings()
    monkeypatch.setattr(clocks, "CONFIRMED_FOR_S", 0.0)  # As a minute after the last answer of the database.
    async with gateway_with(SkewedClock(600.0), database, world_on, topic_sizes, tmp_path, **more) as (world, servers):
        assert await call(world, signer, "replicate", attempt, age_s=400) == 503
        assert await call(world, signer, "replicate", attempt, age_s=0) == 204
        assert len(await records(servers, CALLBACKS)) == 1
