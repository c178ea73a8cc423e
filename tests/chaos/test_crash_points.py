"""Each crash point is a function of the product, and the process ends there: neither before it nor after it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.e2e.conftest import System, system_on
from tests.patience import patient

from chaos import crash_points
from chaos.crash_points import POINTS, NoSuchSeam, Order, Point
from chassis.delivery.consumer import BatchConsumer
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptSubmitted, AttemptSubmitting
from contracts.topics import ATTEMPTS, PARTITIONS
from gateway.context import TENANT
from segue_cli.local.process import Child, child
from segue_cli.stack.components import log_to
from segue_cli.stack.environment import without_settings

LAUNCHER = Path(crash_points.__file__)
UNHEALTHY = 70


@pytest.mark.parametrize(
    "text", ["nowhere", "", "after_post:0", "after_post:x", "after_post:1:sing", "after_post:1:kill:2"]
)
def test_an_invalid_crash_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"crash point|counted from 1"):
        Order.parse(text)


def test_the_act_is_kill_unless_it_is_given_or_the_point_has_its_own() -> None:
    assert Order.parse("after_post") == Order("after_post", 1, crash_points.ACTS["kill"])
    assert Order.parse("after_post:3:stop") == Order("after_post", 3, crash_points.ACTS["stop"])
    assert Order.parse("dead_coordinator:2").act is POINTS["dead_coordinator"].act


@pytest.mark.parametrize("point", POINTS)
def test_every_function_exists(point: str) -> None:
    owner, attribute = crash_points.seam(point)
    assert asyncio.iscoroutinefunction(getattr(owner, attribute))
    if point in ("cancelled_consumer", "dead_coordinator"):
        assert owner is BatchConsumer  # These acts use its attributes.


def test_a_function_that_the_product_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for seam in (
        "adapter_kit.nothing:x",
        "adapter_kit.engine.executor:Nothing.perform",
        "adapter_kit.engine.executor:ActionExecutor.nothing",
    ):
        monkeypatch.setitem(POINTS, "after_post", Point(seam, POINTS["before_handler_tx"].wrap))
        with pytest.raises(NoSuchSeam, match="after_post"):
            crash_points.install(Order.parse("after_post"))


def test_the_launcher_refuses_an_invalid_point_before_it_starts_anything() -> None:
    said: dict[str, str] = {crash_points.VARIABLE: "nowhere"}
    for argv, env in ((["nowhere", "run", "gateway"], {}), (["run", "gateway"], said)):
        done = subprocess.run(
            [sys.executable, str(LAUNCHER), *argv],
            env={"PATH": os.defpath, **env},
            capture_output=True,
            text=True,
            timeout=patient(30),
            check=False,
        )
        assert (done.returncode, "'nowhere' is no crash point" in done.stderr) == (1, True)


# In a running system, one crash after the other.


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with system_on("embedded", tmp_path_factory.mktemp("crash-points"), {}) as running:
        yield running


class CrashingService:
    """A service that is restarted with a crash point."""

    def __init__(self, system: System, service: str, point: str) -> None:
        self.system, self.service, self.point = system, service, point
        self.part = system.parts[service]
        self.process: Child | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> CrashingService:
        # What is not committed yet would be read again, and reach the point.
        await self.system.until(f"{self.service} has committed all", self._committed)
        await self.system.kill(self.service)
        port = str(urlsplit(self.part.address).port)
        tail = ["run", self.service, "--port", port, "--env-file", str(self.system.env_file)]
        env = {**without_settings(os.environ), crash_points.VARIABLE: self.point}
        cwd = str(self.system.env_file.parent)
        async with AsyncExitStack() as stack:
            take, close = log_to(self.part.log)
            stack.callback(close)
            crashing = child([sys.executable, str(LAUNCHER), *tail], name=self.service, env=env, cwd=cwd, on_line=take)
            self.process = await stack.enter_async_context(crashing)
            await self.system._ready(self.part)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await self.system.start(self.service)

    async def _committed(self) -> bool:
        return not (await self.system.lag()).get(self.service)

    async def end(self, within_s: float = 20) -> int:
        """Its exit code, once it has ended at its point."""
        assert self.process is not None
        process = self.process

        async def ended() -> bool:
            return process.returncode is not None

        await self.system.until(f"{self.service} ends at {self.point}", ended, within_s)
        assert f'"point": "{self.point.partition(":")[0]}"' in self.part.log.read_text()
        return await process.wait()


@pytest_asyncio.fixture(loop_scope="session")
async def database(system: System) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(system.env["DATABASE_URL"])
    yield connection
    await connection.close()


@dataclass(frozen=True)
class Case:
    """A service, a crash point in it, and the state that must hold after the crash."""

    service: str
    point: str
    holds: str
    """SQL with the job's id as $1: what must be true in the database."""
    posts: int | None = None
    """How many POSTs the provider must have had for the job."""
    published: str | None = None
    """A type of event that must be in the log of attempts, or, with a minus, must not."""
    code: int = -signal.SIGKILL


FAL, REPLICATE, SINK = "fal-adapter", "replicate-adapter", "log-sink"
_ATTEMPT = "SELECT state = '{1}' FROM {0}_adapter.attempts WHERE job_id = $1"
_UNSENT = "SELECT count(*) = 1 FROM {0}_adapter.outbox WHERE key = $1::text::bytea AND headers ->> 'ce_type' = '{1}'"
_NOTHING = "SELECT count(*) = 0 FROM {0} WHERE job_id = $1"
SUBMITTING, SUBMITTED = AttemptSubmitting.TYPE, AttemptSubmitted.TYPE

# Work left by one crash must not reach the points of a later wave before the jobs of that wave.
WAVES = [
    (
        Case(FAL, "before_handler_tx", _NOTHING.format("fal_adapter.attempts"), posts=0),
        Case(REPLICATE, "cancelled_consumer", "SELECT true WHERE $1 <> ''", code=UNHEALTHY),
        Case(SINK, "dead_coordinator", "SELECT true WHERE $1 <> ''", code=UNHEALTHY),
    ),
    (
        Case(FAL, "after_publish", _UNSENT.format("fal", SUBMITTING), published=SUBMITTING),
        Case(REPLICATE, "mid_collect", _ATTEMPT.format("replicate", "collecting"), posts=1),
        Case(SINK, "sink_mid_batch", _NOTHING.format("log_sink.events")),
    ),
    (
        Case(FAL, "after_outcome_tx", _UNSENT.format("fal", SUBMITTED), posts=1, published=f"-{SUBMITTED}"),
        Case(REPLICATE, "after_post", _ATTEMPT.format("replicate", "submitting"), posts=1),
    ),
    (
        Case(FAL, "after_intent", _ATTEMPT.format("fal", "submitting"), posts=0),
        Case(REPLICATE, "after_handler_tx", "SELECT count(*) = 1 FROM replicate_adapter.attempts WHERE job_id = $1"),
    ),
]


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("wave", WAVES, ids=lambda wave: "+".join(case.point for case in wave))
async def test_the_process_ends_at_its_point(
    system: System, database: asyncpg.Connection[asyncpg.Record], wave: tuple[Case, ...]
) -> None:
    async with AsyncExitStack() as crashing:
        dying = [CrashingService(system, case.service, case.point) for case in wave]
        await asyncio.gather(*(crashing.enter_async_context(one) for one in dying))
        jobs = {
            adapter: await system.submit(f"{case.point} of {adapter}", providers=[adapter.removesuffix("-adapter")])
            for case, adapter in zip(wave, (FAL, REPLICATE), strict=False)
        }
        assert await asyncio.gather(*(one.end() for one in dying)) == [case.code for case in wave]
        for case in wave:
            job_id = jobs.get(case.service, jobs[FAL])
            assert await database.fetchval(case.holds, job_id), case
            if case.posts is not None:
                assert len(await system.posts(f"{case.point} of {case.service}")) == case.posts, case
            if case.published is not None:
                kind = case.published.removeprefix("-")
                assert (kind in await published(system, job_id)) is not case.published.startswith("-"), case
            if case.point in ("before_handler_tx", "after_handler_tx"):
                assert (await system.lag()).get(case.service), "its offset was not committed"
    if wave is WAVES[0]:
        for job_id in jobs.values():
            assert (await system.ended(job_id))["status"] == "succeeded"
        await system.until_idle()  # Rows that are published and not yet deleted would reach the next wave's points.


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
async def test_the_gateway_crashes_with_the_request_in_kafka_and_the_client_unanswered(system: System) -> None:
    async with CrashingService(system, "gateway", "before_202") as crashing:
        body = {"prompt": "nobody hears 202", "duration_s": 2, "has_vocals": False, "style_strength": 0.5}
        with pytest.raises(httpx.TransportError):
            await system.api.post("/api/tracks", json=body, headers={"Idempotency-Key": "before 202"})
        assert await crashing.end() == -signal.SIGKILL
    assert (await system.ended(job_id_for(TENANT, "before 202")))["status"] == "succeeded"


@pytest.mark.e2e
@pytest.mark.asyncio(loop_scope="session")
async def test_a_cancellation_that_leaks_from_a_handler_has_no_effect(system: System) -> None:
    async with CrashingService(system, FAL, "leaked_cancellation") as crashing:
        job = await system.ended(await system.submit("leaked", providers=["fal"]))
        assert job["status"] == "succeeded"
        assert crashing.process is not None
        assert crashing.process.returncode is None
        assert '"point": "leaked_cancellation"' in crashing.part.log.read_text()


async def published(system: System, job_id: str) -> set[str]:
    """The types of the job's events in the topic of attempts."""
    places = [TopicPartition(ATTEMPTS.name, n) for n in range(PARTITIONS)]
    found: set[str] = set()
    async with AIOKafkaConsumer(
        bootstrap_servers=system.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50
    ) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                mine = (record for record in records if record.key == job_id.encode())
                found |= {value.decode() for record in mine for name, value in record.headers if name == "ce_type"}
    return found
