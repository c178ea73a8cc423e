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
"""The embedded cluster lets whoever comes back wait for a whole session."""


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
    """One dead letter: who buried what."""

    service: str
    topic: str
    partition: int
    offset: int
    value: bytes
    error: str


class System:
    """All of Segue while it runs, with a hand on each of its parts."""

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

    async def end(self, *services: str, sig: signal.Signals = signal.SIGKILL) -> list[int]:
        """Signal these services at the same moment; returns their exit codes."""
        for name in services:
            os.kill(self._running[name].pid, sig)
        return [await self._running[name].wait() for name in services]

    async def start(self, *services: str, **settings: str) -> None:
        """Start services again as `segue run` does, with what they ran with, save for `settings`."""
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

    async def alive(self) -> None:
        """Every service runs and is ready."""
        await asyncio.gather(*(self._ready(self.parts[name]) for name in SERVICES))

    async def _ready(self, part: Part) -> None:
        async def ready() -> bool:
            try:
                return (await self.sandbox.get(f"{part.address}/readyz")).is_success
            except httpx.HTTPError:
                return False

        await self.until(f"{part.name} is ready", ready)

    async def until(self, what: object, found: Callable[[], Awaitable[T]], within_s: float = 60) -> T:
        """The first true thing that is found."""
        return await eventually(found, within_s, what, every_s=0.1)

    # Jobs, as a client sees them.

    async def submit(self, prompt: str, key: str | None = None, within_s: float = 60, **fields: Any) -> str:
        """Ask for a short track as a good client does, that is, again with the same key if need be; returns its job."""
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
        """The job; empty while the API does not answer or says 503, never for a 404."""
        try:
            answer = await self.api.get(f"/api/jobs/{job_id}")
        except httpx.TransportError:
            return {}
        assert answer.status_code in (200, 503), answer.text
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return found

    async def ended(self, job_id: str, within_s: float = 60) -> dict[str, Any]:
        """The job once it is over, with its attempts as the log-sink has stored them."""

        async def over() -> dict[str, Any] | None:
            job = await self.job(job_id)
            if not job or job["stale"] or job["status"] not in FINAL:
                return None
            return job if all(map(_whole, job["attempts"])) else None

        job = await self.until(f"job {job_id} ends", over, within_s)
        assert job is not None
        return job

    async def log(self, job_id: str) -> list[dict[str, Any]]:
        """The job's log."""
        entries: list[dict[str, Any]] = (await self.api.get(f"/api/jobs/{job_id}/logs")).json()["entries"]
        return entries

    # The providers.

    async def fault(self, prompt: str, action: Mapping[str, Any], **match: Any) -> None:
        """Have the providers treat what has these words in its prompt like this."""
        rule = {"prompt_contains": prompt, "action": action, **match}
        (await self.sandbox.post("/faults", json=[rule])).raise_for_status()

    async def make_well(self) -> None:
        """Have both providers behave, and Segue forget that they ever did not."""
        (await self.sandbox.put("/faults", json=[])).raise_for_status()
        connection = await asyncpg.connect(self.env["DATABASE_URL"])
        try:
            await connection.execute("; ".join(f"DELETE FROM {adapter}.breakers" for adapter in ADAPTERS))  # noqa: S608
        finally:
            await connection.close()

    async def posts(self, prompt: str) -> list[dict[str, Any]]:
        """The book's entries of the POSTs with these words in their prompt."""
        book = (await self.sandbox.get("/bills")).json()
        posts = [entry for entry in book["entries"] if entry["event"] == "post"]
        return [post for post in posts if prompt in (post["input"] or {}).get("prompt", "")]

    async def paid_once(self, jobs: Sequence[Mapping[str, Any]], prompt: str) -> None:
        """Join what the providers booked with what the API tells: one POST an attempt, one bill an accepted one."""
        posts = await self.posts(prompt)
        asked = Counter((post["input"]["prompt"], post["provider"]) for post in posts)
        assert {one: n for one, n in asked.items() if n > 1} == {}
        refs = [attempt["provider_ref"] for job in jobs for attempt in job["attempts"] if attempt["provider_ref"]]
        bills = {post["request_id"]: post for post in posts if post["accepted"]}
        assert {ref: bill for ref, bill in bills.items() if ref not in refs} == {}, "paid for and lost"
        assert sorted(refs) == sorted(bills)

    # What nobody outside should have to look at.

    async def quiet(self, within_s: float = 60) -> None:
        """Wait until no job and no attempt is live, and nothing is left to publish.

        `within_s` is how long it may take until less is left than before: what goes on slowly is not stuck.
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
        """Put a raw record into a topic; returns its partition and offset."""
        async with AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", max_request_size=4 << 20) as producer:
            sent = await producer.send_and_wait(topic, value, key, timestamp_ms=timestamp_ms, headers=list(headers))
        return sent.partition, sent.offset

    async def dead_letters(self) -> list[DeadLetter]:
        """All dead letters there are."""
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

    async def ends(self, topic: str) -> list[int]:
        """Where each partition of a topic ends."""
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        async with AIOKafkaConsumer(bootstrap_servers=self.kafka) as consumer:
            ends = await consumer.end_offsets(places)
        return [ends[place] for place in places]

    async def lag(self) -> dict[str, int]:
        """How many records each service's group has not committed yet, where it is not none."""
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
        """Where the cluster is."""
        return self.env["KAFKA_BOOTSTRAP_SERVERS"]

    def logs(self) -> dict[str, str]:
        """All that each part has printed."""
        return {name: part.log.read_text() for name, part in self.parts.items() if part.log.exists()}


def _whole(attempt: Mapping[str, Any]) -> bool:
    """Whether this is all that will ever be told of an attempt; the tail alone does not know when it was sent."""
    told = attempt["submitting_at"] or attempt["error_kind"] == "unavailable"
    # The job's own end may be stored before what its attempt said last.
    named = attempt["provider_ref"] or attempt["state"] != "succeeded"
    return attempt["state"] in FINAL and bool(told) and bool(named)


def _letter(record: ConsumerRecord[bytes, bytes]) -> DeadLetter:
    said = {name.removeprefix("dead-letter-"): value.decode() for name, value in record.headers}
    place = (said["topic"], int(said["partition"]), int(said["offset"]))
    return DeadLetter(said["service"], *place, record.value or b"", said["error"])


@asynccontextmanager
async def _apache_kafka() -> AsyncIterator[str]:
    argv = [sys.executable, str(REPOSITORY / "deploy" / "kafka" / "kafka.py")]
    async with child(argv, name="kafka", ready=ready_with("brokers"), ready_within_s=patient(120)) as launcher:
        yield launcher.ready["bootstrap_servers"]


def _catalogue(folder: Path) -> Path:
    """The repository's own catalogue, with a short limit on how long one model may run."""
    before, name, after = default_catalogue_path().read_text().partition("  music/lyria-2:\n")
    path = folder / "models.yaml"
    path.write_text(before + name + after.replace("longest_run_s: 300", f"longest_run_s: {RUN_LIMIT_S}", 2))
    return path


@asynccontextmanager
async def system_on(cluster: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[System]:
    """All of Segue on a cluster of its own."""
    async with AsyncExitStack() as cleanup:
        session = {"SEGUE_KAFKA_SESSION_TIMEOUT_S": str(SESSION_S[cluster])}
        short = {**SETTINGS, **session, "SEGUE_CATALOGUE": str(_catalogue(folder))}
        environ = {**without_settings(os.environ), **short, **settings}
        if cluster == "apache":
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
    """One system for all tests that leave it as it was."""
    if request.param == "apache" and shutil.which("java") is None:
        pytest.fail("a real Kafka needs Java, and there is none on the PATH")
    folder = tmp_path_factory.mktemp("system")
    async with system_on(request.param, folder, {}) as system:
        yield system


@pytest_asyncio.fixture(loop_scope="session")
async def system(shared_system: System) -> System:
    """The shared system, both providers well and trusted."""
    await shared_system.make_well()
    return shared_system


Segue = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def segue(system: System) -> Segue:
    """The `segue` command on that system's API: its exit status, and all that it says."""

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
        said, _ = await asyncio.wait_for(process.communicate(stdin.encode()), patient(120))
        return process.returncode or 0, said.decode()

    return run
