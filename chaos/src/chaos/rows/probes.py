"""What rows observe: bills, tables, metrics, topics, and the state of processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import Replica
from chaos.cluster.topics import behind, partitions_of
from chaos.load.clients import FINAL, Load
from chaos.load.requests import Request
from contracts.topics import TOPICS, ServiceName, Topic

T = TypeVar("T")
POLL_S: Final = 0.2
PROVIDERS: Final = ("fal", "replicate")
SIGKILLED: Final = -9


async def wait_for(what: str, found: Callable[[], Awaitable[T]], within_s: float = 45) -> T:
    """The first true result of `found`. Raises AssertionError."""
    deadline = time.monotonic() + within_s
    while not (thing := await found()):
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(POLL_S)
    return thing


async def finished_job(load: Load, request: Request, within_s: float = 150) -> dict[str, Any]:
    """The job of a request with all its attempts, once the log has the end of each."""
    await load.ended(request, within_s)

    async def complete() -> dict[str, Any] | None:
        job = await load.job(request)
        return job if job and all(each["state"] in FINAL for each in job["attempts"]) else None

    job = await wait_for(f"the log is complete about {request.token}", complete)
    assert job is not None
    return job


def kinds(job: Mapping[str, Any]) -> list[str | None]:
    """The failure kind of each attempt of a job, None for a success; attempts that were not sent are left out."""
    every = [attempt["error_kind"] for attempt in job["attempts"]]
    return [kind for kind in every if kind not in ("unreachable", "unavailable")]


def succeeded_at_first(job: Mapping[str, Any]) -> bool:
    """Whether the first provider that received the job completed it."""
    return job["status"] == "succeeded" and kinds(job) == [None]


# Processes.


async def ended(replica: Replica, within_s: float = 180) -> int:
    """The exit code of a replica, once it has ended by itself. Raises AssertionError."""
    try:
        async with asyncio.timeout(within_s):
            return await replica.wait()
    except TimeoutError:
        raise AssertionError(f"{replica.name} did not end within {within_s:.0f} s") from None


async def crashed(replica: Replica, point: str, within_s: float = 180, **settings: str) -> None:
    """Restart a replica with a crash point, wait until it has died there, and start it without one."""
    await replica.kill()
    await replica.start(point, **settings)
    assert (code := await ended(replica, within_s)) == SIGKILLED, f"{replica.name} ended with {code} at {point}"
    await replica.start()


async def wait_until_frozen(replica: Replica, within_s: float = 45) -> None:
    """Wait until a replica has stopped itself with SIGSTOP."""

    async def stopped() -> bool:
        with suppress(OSError):
            stat = await asyncio.to_thread(Path(f"/proc/{replica.pid}/stat").read_text)
            return stat.rpartition(") ")[2].startswith("T")
        return False

    await wait_for(f"{replica.name} stands still", stopped, within_s)


def log_sizes(folder: Path, pattern: str) -> dict[Path, int]:
    """The present sizes of the log files below a folder."""
    return {path: path.stat().st_size for path in folder.glob(pattern)}


def logged_since(sizes: Mapping[Path, int], words: str) -> bool:
    """Whether one of these files has had the words since."""
    for path, size in sizes.items():
        with path.open("rb") as file:
            file.seek(size)
            if words.encode() in file.read():
                return True
    return False


# The bills.


class BillLog:
    """The POSTs that providers have recorded since this was created."""

    def __init__(self, fleet: Fleet) -> None:
        self._path = fleet.bills_file
        self._at = self._path.stat().st_size
        self._posts: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)

    def posts(self) -> Mapping[str, list[Mapping[str, Any]]]:
        """The POSTs by attempt, in order."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for entry in map(json.loads, whole.splitlines()):
            if entry["event"] == "post":
                self._posts[entry["attempt_id"]].append(entry)
        return self._posts

    def of_job(self, job_id: str | None) -> list[Mapping[str, Any]]:
        """The POSTs for one job, in order."""
        mine = [
            post for attempt_id, posts in self.posts().items() if attempt_id.startswith(f"{job_id}.") for post in posts
        ]
        return sorted(mine, key=lambda post: float(post["at"]))

    def once(self) -> int:
        """The number of POSTed attempts. Raises AssertionError if one was accepted twice."""
        twice = {one: len(posts) for one, posts in self.posts().items() if sum(post["accepted"] for post in posts) > 1}
        assert not twice, f"accepted more than once: {twice}"
        return len(self._posts)


# The tables.


async def fetch(fleet: Fleet, sql: str, *args: object) -> list[asyncpg.Record]:
    """The rows of a query."""
    connection = await asyncpg.connect(fleet.env["DATABASE_URL"])
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def count(fleet: Fleet, sql: str, *args: object) -> int:
    """The single number that a query returns."""
    return int((await fetch(fleet, sql, *args))[0][0])


async def now(fleet: Fleet) -> datetime:
    """The database's time, which all timers use."""
    at = (await fetch(fleet, "SELECT now()"))[0][0]
    assert isinstance(at, datetime)
    return at.astimezone(UTC)


# The metrics.


class MetricDeltas:
    """Increases of the metrics of some services since this was created. Those of a process that dies are lost."""

    def __init__(self, fleet: Fleet, services: Iterable[ServiceName]) -> None:
        self._fleet, self._services = fleet, tuple(services)
        self._before: Mapping[tuple[str, int], list[Any]] = {}

    @classmethod
    async def of(cls, fleet: Fleet, *services: ServiceName) -> Self:
        """Read the start values."""
        counts = cls(fleet, services)
        counts._before = await counts._read()
        return counts

    async def since(self, name: str, **labels: str) -> float:
        """The increase of one metric."""
        total = 0.0
        for process, samples in (await self._read()).items():
            total += _sum(samples, name, labels) - _sum(self._before.get(process, []), name, labels)
        return total

    async def by(self, name: str, label: str) -> dict[str, int]:
        """The increase of one metric for each value of a label."""
        samples = [one for found in (await self._read()).values() for one in found if one.name == name]
        values = sorted({one.labels[label] for one in samples if label in one.labels})
        counted = {value: int(await self.since(name, **{label: value})) for value in values}
        return {value: n for value, n in counted.items() if n}

    async def _read(self) -> dict[tuple[str, int], list[Any]]:
        found: dict[tuple[str, int], list[Any]] = {}
        for replica in self._fleet.members:
            if replica.service in self._services and replica.running:
                with suppress(httpx.HTTPError):
                    page = await self._fleet.pages.get(f"{replica.address}/metrics")
                    families = text_string_to_metric_families(page.text)
                    found[replica.name, replica.pid] = [one for family in families for one in family.samples]
        return found


def _sum(samples: Iterable[Any], name: str, labels: Mapping[str, str]) -> float:
    return sum(float(one.value) for one in samples if one.name == name and labels.items() <= one.labels.items())


# The topics.


async def ends(fleet: Fleet, *topics: Topic) -> dict[TopicPartition, int]:
    """The end offset of each partition of some topics."""
    servers = fleet.env["KAFKA_BOOTSTRAP_SERVERS"]
    places = await partitions_of(servers, topics)
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        return dict(await consumer.end_offsets(places))


async def duplicates(fleet: Fleet, since: Mapping[TopicPartition, int]) -> int:
    """The number of records since then that repeat the event of another one."""
    seen: set[bytes] = set()
    repeated = 0
    servers = fleet.env["KAFKA_BOOTSTRAP_SERVERS"]
    async with AIOKafkaConsumer(bootstrap_servers=servers, fetch_max_wait_ms=50) as consumer:
        consumer.assign(list(since))
        for place, offset in since.items():
            consumer.seek(place, offset)
        end = await consumer.end_offsets(list(since))
        while any([await consumer.position(place) < end[place] for place in since]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                ids = [value for record in records for name, value in record.headers if name == "ce_id"]
                repeated += len(ids) - len({*ids} - seen)
                seen.update(ids)
    return repeated


async def groups_behind(fleet: Fleet, last: Mapping[TopicPartition, int]) -> dict[str, int]:
    """The number of records before these end offsets that each group has not committed, for groups with any."""
    return await behind(fleet.env["KAFKA_BOOTSTRAP_SERVERS"], last)


async def caught_up(fleet: Fleet, within_s: float = 60) -> None:
    """Wait until each group has read and committed what its topics hold now; more may arrive meanwhile."""
    last = await ends(fleet, *TOPICS)

    async def nothing_left() -> bool:
        return not await groups_behind(fleet, last)

    await wait_for("every group has read and committed everything", nothing_left, within_s)
