"""Segue as its users run it: five services as processes, on the embedded cluster and on Apache Kafka."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from tests.patience import eventually, patient

from contracts.catalogue import default_catalogue_path
from contracts.topics import DEAD_LETTERS, PARTITIONS, SERVICES, TOPICS
from segue_cli.local.postgres import LocalPostgres
from segue_cli.local.process import child, ready_with
from segue_cli.stack.components import Part, log_to
from segue_cli.stack.environment import SANDBOX, read_env, without_settings, write_env
from segue_cli.stack.folder import held
from segue_cli.stack.run import Plan, Stack, stack

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]
FINAL = frozenset({"succeeded", "failed", "cancelled"})
RUN_LIMIT_S = round(patient(3))
"""How long a run of music/lyria-2 may take here; no other test uses that model."""

CLUSTERS = [pytest.param("embedded", marks=pytest.mark.e2e), pytest.param("apache", marks=pytest.mark.kafka)]
SETTINGS = {
    "MUSIC_PROVIDER": "fal",
    "SEGUE_SUBMIT_TIMEOUT_S": str(patient(2)),
    "SEGUE_SUBMIT_GRACE_S": str(patient(8)),
    "SEGUE_START_DEADLINE_S": str(patient(6)),
}
SESSION_S = {"embedded": patient(1.5), "apache": patient(4)}
"""On the embedded cluster, a consumer that rejoins its group waits for a whole session."""

COMMUNITY = "meta/musicgen:671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"
COMMUNITY_MODEL = f"""
  music/musicgen:
    title: MusicGen
    routes:
      replicate:
        endpoint: {COMMUNITY}
        input:
          prompt: {{from: prompt}}
          duration: {{from: duration_s, clamp: [1, 190], round: up}}
        limits:
          duration_s: {{max: 190}}
          vocals: forbidden
          lyrics: forbidden
        price: {{usd: 0.03, per: run}}
        longest_run_s: 300
        start_within_s: 120
        source: https://replicate.com/meta/musicgen/api/schema
"""

ADAPTERS = ("fal_adapter", "replicate_adapter")
UNFINISHED = """
    SELECT 'a live job' FROM orchestrator.jobs WHERE next_action_at IS NOT NULL
    UNION ALL SELECT 'a live attempt of a job' FROM orchestrator.attempts WHERE live
    UNION ALL SELECT 'live in fal''s ledger' FROM fal_adapter.attempts
        WHERE state NOT IN ('succeeded', 'failed', 'cancelled')
    UNION ALL SELECT 'live in Replicate''s ledger' FROM replicate_adapter.attempts
        WHERE state NOT IN ('succeeded', 'failed', 'cancelled')
    UNION ALL SELECT 'unpublished by the orchestrator' FROM orchestrator.outbox
    UNION ALL SELECT 'unpublished by the fal-adapter' FROM fal_adapter.outbox
    UNION ALL SELECT 'unpublished by the replicate-adapter' FROM replicate_adapter.outbox
"""


class Running(Protocol):
    """A process of the system."""

    @property
    def pid(self) -> int: ...
    async def wait(self) -> int: ...


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter: the service that wrote it, the record that it holds, and the error."""

    service: str
    topic: str
    partition: int
    offset: int
    value: bytes
    error: str


class System:
    """A running Segue: its processes, its API, the sandbox's providers, its topics and its database."""

    def __init__(
        self,
        running: Stack,
        env_file: Path,
        api: httpx.AsyncClient,
        sandbox: httpx.AsyncClient,
        cleanup: AsyncExitStack,
    ) -> None:
        self.api, self.sandbox, self.env = api, sandbox, running.env
        self.parts = {part.name: part for part in (*running.services, *running.local)}
        self.env_file = env_file
        self._running: dict[str, Running] = {name: part.process for name, part in self.parts.items()}
        self._cleanup = cleanup

    @property
    def postgres(self) -> LocalPostgres:
        process = self.parts["postgres"].process
        assert isinstance(process, LocalPostgres)
        return process

    # Its processes.

    async def kill(self, *services: str, sig: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send a signal to these services at the same moment; returns their exit codes."""
        for name in services:
            os.kill(self._running[name].pid, sig)
        return [await self._running[name].wait() for name in services]

    async def start(self, *services: str, **settings: str) -> None:
        """Start services as `segue run` does, with `settings` over the system's own; returns once they are ready."""
        for name in services:
            part = self.parts[name]
            port = str(urlsplit(part.address).port)
            own = self.env_file.with_name(f"{name}.env")
            write_env(own, read_env(self.env_file) | settings)
            argv = [sys.executable, "-m", "segue_cli", "run", name, "--port", port, "--env-file", str(own)]
            take, close = log_to(part.log)
            self._cleanup.callback(close)
            env, cwd = without_settings(os.environ), str(self.env_file.parent)
            process = child(argv, name=name, env=env, cwd=cwd, on_line=take, grace_s=30)
            self._running[name] = await self._cleanup.enter_async_context(process)
        await asyncio.gather(*(self._ready(self.parts[name]) for name in services))

    async def until_ready(self) -> None:
        """Wait until every service is ready."""
        await asyncio.gather(*(self._ready(self.parts[name]) for name in SERVICES))

    async def _ready(self, part: Part) -> None:
        async def ready() -> bool:
            try:
                return (await self.sandbox.get(f"{part.address}/readyz")).is_success
            except httpx.HTTPError:
                return False

        await self.until(f"{part.name} is ready", ready)

    async def until(self, what: object, found: Callable[[], Awaitable[T]], within_s: float = 60) -> T:
        """The first true value that `found` returns; fails after `within_s` seconds, and names `what`."""
        return await eventually(found, within_s, what, every_s=0.1)

    # Jobs, as a client sees them.

    async def submit(self, prompt: str, key: str | None = None, within_s: float = 60, **fields: Any) -> str:
        """Request a short track, with the same key until it is accepted; returns the id of its job."""
        body = {"prompt": prompt, "duration_s": 2, "has_vocals": False, "style_strength": 0.5, **fields}

        async def accepted() -> str | None:
            try:
                answer = await self.api.post("/api/tracks", json=body, headers={"Idempotency-Key": key or prompt})
            except httpx.TransportError:
                return None
            assert answer.status_code in (202, 503), answer.text
            return str(answer.json()["job_id"]) if answer.status_code == 202 else None

        job = await self.until(f"{prompt} is accepted", accepted, within_s)
        assert job is not None
        return job

    async def job(self, job_id: str) -> dict[str, Any]:
        """The job; empty while the API does not answer or answers 503. A 404 fails the test."""
        try:
            answer = await self.api.get(f"/api/jobs/{job_id}")
        except httpx.TransportError:
            return {}
        assert answer.status_code in (200, 503), answer.text
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return found

    async def ended(self, job_id: str, within_s: float = 60) -> dict[str, Any]:
        """The job once it has ended and the log-sink has stored all of its attempts."""

        async def over() -> dict[str, Any] | None:
            job = await self.job(job_id)
            if not job or job["stale"] or job["status"] not in FINAL:
                return None
            return job if all(map(_complete, job["attempts"])) else None

        job = await self.until(f"job {job_id} ends", over, within_s)
        assert job is not None
        return job

    async def log(self, job_id: str) -> list[dict[str, Any]]:
        """The job's log."""
        entries: list[dict[str, Any]] = (await self.api.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
        return entries

    # The providers.

    async def fault(self, prompt: str, action: Mapping[str, Any], **match: Any) -> None:
        """Add a fault for requests whose prompt contains these words."""
        rule = {"prompt_contains": prompt, "action": action, **match}
        (await self.sandbox.post("/faults", json=[rule])).raise_for_status()

    async def reset_providers(self) -> None:
        """Remove all faults, and all breakers."""
        (await self.sandbox.put("/faults", json=[])).raise_for_status()
        connection = await asyncpg.connect(self.env["DATABASE_URL"])
        try:
            await connection.execute("; ".join(f"DELETE FROM {adapter}.breakers" for adapter in ADAPTERS))  # noqa: S608
        finally:
            await connection.close()

    async def posts(self, prompt: str) -> list[dict[str, Any]]:
        """The POSTs among the bills whose prompt contains these words."""
        bills = (await self.sandbox.get("/bills")).json()
        posts = [entry for entry in bills["entries"] if entry["event"] == "post"]
        return [post for post in posts if prompt in (post["input"] or {}).get("prompt", "")]

    async def assert_paid_once(self, jobs: Sequence[Mapping[str, Any]], prompt: str) -> None:
        """Compare the bills with the API's attempts: one POST for each attempt, one bill for each accepted one."""
        posts = await self.posts(prompt)
        asked = Counter((post["input"]["prompt"], post["provider"]) for post in posts)
        assert {one: n for one, n in asked.items() if n > 1} == {}
        refs = [attempt["provider_ref"] for job in jobs for attempt in job["attempts"] if attempt["provider_ref"]]
        bills = {post["request_id"]: post for post in posts if post["accepted"]}
        assert {ref: bill for ref, bill in bills.items() if ref not in refs} == {}, "paid for and lost"
        assert sorted(refs) == sorted(bills)

    async def until_no_run(self, prompt: str) -> None:
        """Wait until no run whose prompt contains these words goes on at a provider."""
        ours = {post["request_id"] for post in await self.posts(prompt)}

        async def stopped() -> bool:
            jobs = (await self.sandbox.get("/jobs")).json()
            return not any(job["id"] in ours and job["ended_at"] is None for job in jobs)

        await self.until(f"no run of {prompt!r} goes on at a provider", stopped)

    # Its database and its topics.

    async def until_idle(self, within_s: float = 60) -> None:
        """Wait until no job and no attempt is live, and no outbox has a row.

        `within_s` limits the seconds between two decreases of what is left, and not the whole wait.
        """
        connection = await asyncpg.connect(self.env["DATABASE_URL"])
        left: Counter[str] = Counter()
        fewest = math.inf

        async def less_is_left() -> bool:
            left.clear()
            left.update([row[0] for row in await connection.fetch(UNFINISHED)])
            return left.total() < fewest

        try:
            while fewest:
                await self.until(left, less_is_left, within_s)
                fewest = left.total()
        finally:
            await connection.close()

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        timestamp_ms: int | None = None,
    ) -> tuple[int, int]:
        """Write a raw record to a topic; returns its partition and offset."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", max_request_size=4 << 20) as producer:
            sent = await producer.send_and_wait(topic, value, key, timestamp_ms=timestamp_ms, headers=list(headers))
        return sent.partition, sent.offset

    async def dead_letters(self) -> list[DeadLetter]:
        """All dead letters."""
        places = [TopicPartition(DEAD_LETTERS.name, n) for n in range(PARTITIONS)]
        found: list[ConsumerRecord[bytes, bytes]] = []
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50
        ) as consumer:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
        return [_letter(record) for record in found]

    async def end_offsets(self, topic: str) -> list[int]:
        """The end offset of each partition of a topic."""
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka) as consumer:
            ends = await consumer.end_offsets(places)
        return [ends[place] for place in places]

    async def lag(self) -> dict[str, int]:
        """The records that the group of each service has not committed yet; services without any are left out."""
        lags: Counter[str] = Counter()
        for service in SERVICES:
            topics = [topic.name for topic in TOPICS if service in topic.groups]
            places = [TopicPartition(topic, n) for topic in topics for n in range(PARTITIONS)]
            async with AIOKafkaConsumer(
                bootstrap_servers=self.kafka, group_id=service, enable_auto_commit=False
            ) as consumer:
                ends = await consumer.end_offsets(places)
                for place in places:
                    lags[service] += ends[place] - (await consumer.committed(place) or 0)
        return {service: lag for service, lag in lags.items() if lag}

    @property
    def kafka(self) -> str:
        """The bootstrap servers of the cluster."""
        return self.env["KAFKA_BOOTSTRAP_SERVERS"]

    def logs(self) -> dict[str, str]:
        """The output of each component, by its name."""
        return {name: part.log.read_text() for name, part in self.parts.items() if part.log.exists()}


def _complete(attempt: Mapping[str, Any]) -> bool:
    """Whether everything about an attempt has been stored; the gateway's tail has no time of the submit."""
    submitted = attempt["submitting_at"] or attempt["error_kind"] == "unavailable"
    # The end of the job may be stored before the last event of its attempt.
    named = attempt["provider_ref"] or attempt["state"] != "succeeded"
    return attempt["state"] in FINAL and bool(submitted) and bool(named)


def _letter(record: ConsumerRecord[bytes, bytes]) -> DeadLetter:
    fields = {name.removeprefix("dead-letter-"): value.decode() for name, value in record.headers}
    place = (fields["topic"], int(fields["partition"]), int(fields["offset"]))
    return DeadLetter(fields["service"], *place, record.value or b"", fields["error"])


@asynccontextmanager
async def _apache_kafka() -> AsyncIterator[str]:
    argv = [sys.executable, str(REPOSITORY / "deploy" / "kafka" / "kafka.py")]
    async with child(argv, name="kafka", ready=ready_with("brokers"), ready_within_s=patient(120)) as launcher:
        yield launcher.ready["bootstrap_servers"]


def _catalogue(folder: Path) -> Path:
    """The repository's own catalogue, with a short limit on how long one model may run, and with a community model."""
    before, name, after = default_catalogue_path().read_text().partition("  music/lyria-2:\n")
    short = after.replace("longest_run_s: 300", f"longest_run_s: {RUN_LIMIT_S}", 2)
    path = folder / "models.yaml"
    path.write_text(before + name + short + COMMUNITY_MODEL)
    return path


@asynccontextmanager
async def system_on(cluster: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[System]:
    """All of Segue on a cluster of its own, or on the one that the settings name."""
    async with AsyncExitStack() as cleanup:
        session = {"SEGUE_KAFKA_SESSION_TIMEOUT_S": str(SESSION_S[cluster])}
        short = {**SETTINGS, **session, "SEGUE_CATALOGUE": str(_catalogue(folder))}
        environ = {**without_settings(os.environ), **short, **settings}
        if cluster == "apache" and "KAFKA_BOOTSTRAP_SERVERS" not in settings:
            environ["KAFKA_BOOTSTRAP_SERVERS"] = await cleanup.enter_async_context(_apache_kafka())
        state = cleanup.enter_context(held(folder / "segue"))
        running = await cleanup.enter_async_context(stack(Plan(state, environ, folder, throwaway=True)))
        api = httpx.AsyncClient(base_url=running.api, timeout=patient(60), trust_env=False, limits=httpx.Limits())
        sandbox = httpx.AsyncClient(base_url=running.env[SANDBOX], timeout=patient(60), trust_env=False)
        async with api, sandbox, AsyncExitStack() as started_again:
            await sandbox.patch("/settings", json={"queue_s": 0.05, "run_s": 0.2})
            yield System(running, state.env_file, api, sandbox, started_again)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=CLUSTERS)
async def shared_system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    """One system for all tests that leave it as they found it."""
    if request.param == "apache" and shutil.which("java") is None:
        pytest.fail("Apache Kafka needs Java, and there is none on the PATH")
    folder = tmp_path_factory.mktemp("system")
    async with system_on(request.param, folder, {}) as system:
        yield system


@pytest_asyncio.fixture(loop_scope="session")
async def system(shared_system: System) -> System:
    """The shared system, without faults and without open breakers."""
    await shared_system.reset_providers()
    return shared_system


Segue = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def segue(system: System) -> Segue:
    """The `segue` command against that system's API; returns its exit status and its output."""

    async def run(*words: str, stdin: str = "") -> tuple[int, str]:
        argv = ["-m", "segue_cli", *words, "--api", str(system.api.base_url)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *argv,
            env=without_settings(os.environ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), patient(120))
        return process.returncode or 0, output.decode()

    return run
