"""A service made of the chassis only: each request becomes one row and one event, or the fault that its reason names.

Tests run it in their own process, or as one of its own with `python toy.py NAME`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from chassis.delivery.consumer import BatchConsumer, Delivered
from chassis.http.server import health_app, serve_http
from chassis.kafka.broker import SegueBroker, connected, make_broker
from chassis.kafka.membership import member
from chassis.kafka.outbox import Outbox, Transaction
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, open_pool
from chassis.runtime import watchdog
from chassis.runtime.process import run_service
from chassis.runtime.runtime import Consuming, Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from chassis.settings.service import ServiceSettings
from contracts.envelope import Record, encode
from contracts.ids import AttemptId, JobId, attempt_id_for, job_id_for, track_id_for
from contracts.messages.jobs import JobStarted
from contracts.messages.requests import CancelRequested
from contracts.topics import DEAD_LETTERS, JOBS, PARTITIONS, REQUESTS, Topic

PATIENCE = float(os.environ.get("SEGUE_TEST_PATIENCE") or 1)
"""The factor of `tests.patience`, which the toy as a process of its own cannot import."""
IDENTIFIED = "TOY_IDENTIFIED" in os.environ
SESSION_S = 1.5 * PATIENCE
QUICK = Consuming(session_timeout_s=SESSION_S, fetch_wait_ms=20)
TABLES = """
CREATE SCHEMA IF NOT EXISTS toy;
CREATE TABLE IF NOT EXISTS toy.effects (job_id text PRIMARY KEY, commits int NOT NULL, n bigserial);
CREATE TABLE IF NOT EXISTS toy.locked ();
CREATE TABLE IF NOT EXISTS toy.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL, key bytea NOT NULL, value bytea NOT NULL,
    headers jsonb NOT NULL, event_id uuid NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now()
);
"""
_EFFECT = """
INSERT INTO effects (job_id, commits) SELECT id, 1 FROM unnest($1::text[]) WITH ORDINALITY AS given (id, place)
ORDER BY place ON CONFLICT (job_id) DO UPDATE SET commits = effects.commits + 1 RETURNING job_id, commits
"""

_stop: Any = AIOKafkaConsumer.stop

Fault = Callable[["Toy", Transaction], Awaitable[None]]


def job(n: int) -> JobId:
    return job_id_for("toy", str(n))


def request(n: int, reason: str | None = None) -> Record:
    """The n-th request; `reason` is a key of FAULTS."""
    message = CancelRequested(job_id=job(n), occurred_at=datetime.now(UTC), tenant="toy", reason=reason)
    return encode(message, source="test", traceparent=None)


def started(job_id: JobId, version: int = 1) -> JobStarted:
    """The event that the toy publishes for a request."""
    return JobStarted(
        job_id=job_id,
        occurred_at=datetime.now(UTC),
        track_id=track_id_for(job_id),
        tenant="toy",
        version=version,
        status="running",
        attempt_id=AttemptId(attempt_id_for(job_id, 1)),
        provider="fal",
    )


@dataclass
class Toy:
    """A running toy, and the state that tests read."""

    runtime: Runtime
    broker: SegueBroker
    pool: Pool
    outbox: Outbox
    calls: list[list[str | None]] = field(default_factory=list)
    """The reasons in each batch that the handler was called with."""
    consumer: BatchConsumer | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    mended: bool = False
    """It handles every message, whatever its reason."""
    most: int = 1_000_000
    """The largest batch that it handles within its time."""

    async def __call__(self, batch: Sequence[Delivered], /) -> None:
        messages = [each.message for each in batch if isinstance(each.message, CancelRequested)]
        self.calls.append([message.reason for message in messages])
        if len(messages) > self.most:
            await asyncio.sleep(3600)
        async with self.outbox.transaction() as transaction:
            for message in messages:
                if message.reason in FAULTS and not self.mended:
                    await FAULTS[message.reason](self, transaction)
            effects = await transaction.connection.fetch(_EFFECT, list(dict.fromkeys(m.job_id for m in messages)))
            for row in effects:
                if row["commits"] == 1:
                    transaction.emit(started(JobId(row["job_id"])), None)

    async def commits(self) -> dict[str, int]:
        """The number of commits of each job's effect, in the order of the first ones."""
        return {row["job_id"]: row["commits"] for row in await self.pool.fetch("SELECT * FROM effects ORDER BY n")}

    async def waiting(self) -> int:
        """The number of messages in the outbox."""
        count: int = await self.pool.fetchval("SELECT count(*) FROM outbox")
        return count


@asynccontextmanager
async def toy(
    servers: str | KafkaCluster,
    database_url: str,
    runtime: Runtime,
    *,
    consuming: bool = True,
    mended: bool = False,
    identified: bool = False,
    topics: Sequence[Topic] = (REQUESTS,),
    **options: Any,
) -> AsyncIterator[Toy]:
    """The toy, running in this process; it consumes `topics`, or only publishes if not `consuming`.

    If `identified`, it is a member with an identity, as the services are.
    """
    cluster = KafkaCluster(servers) if isinstance(servers, str) else servers
    broker = make_broker(cluster, runtime.service)
    async with open_pool(database_url, "toy") as pool:
        await pool.execute(TABLES)
        made = Toy(runtime, broker, pool, Outbox(pool, broker, runtime), mended=mended)
        if consuming:
            made.consumer = BatchConsumer(broker, runtime, topics, made, **options)
        async with (
            member(pool, cluster, runtime) if identified else nullcontext(),
            connected(broker, runtime, reads=(REQUESTS,), writes=(JOBS, DEAD_LETTERS)),
            made.outbox.running(),
            made.consumer.running() if made.consumer else nullcontext(),
        ):
            runtime.started = True
            try:
                yield made
            finally:
                runtime.stopping.set()


def runtime_for(name: str = "toy") -> Runtime:
    return Runtime(name, make_telemetry(name, None), consuming=QUICK)


async def leaking_stop(consumer: AIOKafkaConsumer) -> None:
    """Stop, and raise the CancelledError of the fetch task, as aiokafka does if that task pauses before a retry."""
    await _stop(consumer)
    raise asyncio.CancelledError


async def send(servers: str, records: Iterable[Record], partition: int | None = 0) -> None:
    """Send records to their topics, unchanged."""
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=4_000_000) as producer:
        sent = [
            await producer.send(
                record.topic, record.value, key=record.key, headers=list(record.headers), partition=partition
            )
            for record in records
        ]
        await asyncio.gather(*sent)


async def read(servers: str, topic: str, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """At least the first `count` records of a topic: all that it contains by then."""
    found: list[ConsumerRecord[bytes, bytes]] = []
    async with (
        asyncio.timeout(60 * PATIENCE),
        AIOKafkaConsumer(
            topic, bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
        ) as consumer,
    ):
        ends = await consumer.end_offsets(consumer.assignment())
        while len(found) < count or len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found.extend(records)
            ends = await consumer.end_offsets(consumer.assignment())
    return found


async def lag(servers: str, group: str, topic: str) -> dict[int, int]:
    """The number of records of each partition that the group has not committed."""
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as consumer:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        return {place.partition: ends[place] - (await consumer.committed(place) or 0) for place in places}


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    """Wait until the condition holds."""
    # Not at the top: the toy as a process of its own cannot import it.
    from tests.patience import eventually

    await eventually(holds, within_s)


def environment(servers: str, database_url: str, **more: str) -> Mapping[str, str]:
    """The environment of a toy that is a process of its own."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "DATABASE_URL": database_url,
        "SEGUE_KAFKA_SESSION_TIMEOUT_S": str(SESSION_S),
        "SEGUE_KAFKA_FETCH_WAIT_MS": "20",
        "SEGUE_TEST_PATIENCE": str(PATIENCE),
        "PATH": os.defpath,
        **more,
    }


async def _raise(_toy: Toy, _transaction: Transaction) -> None:
    raise RuntimeError("a bug")


async def _nul(_toy: Toy, transaction: Transaction) -> None:
    await transaction.connection.execute("SELECT $1::text", "\0")


async def _leak(_toy: Toy, _transaction: Transaction) -> None:
    raise asyncio.CancelledError


async def _wait(toy: Toy, _transaction: Transaction) -> None:
    await toy.gate.wait()


async def _lock(_toy: Toy, transaction: Transaction) -> None:
    await transaction.connection.execute("SET LOCAL lock_timeout = '100ms'; LOCK TABLE locked")


async def _work(_toy: Toy, _transaction: Transaction) -> None:
    print('{"working": true}', flush=True)
    await asyncio.sleep(1)


async def _hang(_toy: Toy, _transaction: Transaction) -> None:
    print('{"working": true}', flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


async def _block(_toy: Toy, _transaction: Transaction) -> None:
    print('{"working": true}', flush=True)
    time.sleep(60)  # noqa: ASYNC251 - the fault itself


async def _crash(_toy: Toy, transaction: Transaction) -> None:
    transaction.after_commit(partial(os._exit, 9))


async def _kill_loop(toy: Toy, _transaction: Transaction) -> None:
    assert toy.consumer is not None
    toy.consumer.subscriber.tasks[0].cancel()


async def _kill_coordinator(toy: Toy, _transaction: Transaction) -> None:
    _client(toy)._coordinator._coordination_task.cancel()


async def _kill_fetcher(toy: Toy, _transaction: Transaction) -> None:
    _client(toy)._fetcher._fetch_task.cancel()


async def _kill_metadata(toy: Toy, _transaction: Transaction) -> None:
    _client(toy)._client._sync_task.cancel()


async def _kill_sender(toy: Toy, _transaction: Transaction) -> None:
    _producer(toy)._sender.sender_task.cancel()


async def _kill_producers_metadata(toy: Toy, _transaction: Transaction) -> None:
    _producer(toy).client._sync_task.cancel()


async def _lose_sequence(toy: Toy, _transaction: Transaction) -> None:
    manager = _producer(toy)._txn_manager
    for partition in range(6):
        manager.increment_sequence_number(TopicPartition(JOBS.name, partition), 5)


def _client(toy: Toy) -> Any:
    assert toy.consumer is not None
    return toy.consumer.subscriber.consumer


def _producer(toy: Toy) -> Any:
    producer: Any = toy.broker.config.broker_config.producer
    return producer._producer.producer


FAULTS: dict[str | None, Fault] = {
    "raise": _raise,
    "nul": _nul,
    "leak": _leak,
    "wait": _wait,
    "lock": _lock,
    "work": _work,
    "hang": _hang,
    "block": _block,
    "crash": _crash,
    "kill loop": _kill_loop,
    "kill coordinator": _kill_coordinator,
    "kill fetcher": _kill_fetcher,
    "kill metadata": _kill_metadata,
    "kill sender": _kill_sender,
    "kill producer's metadata": _kill_producers_metadata,
    "lose sequence": _lose_sequence,
}


@asynccontextmanager
async def app(settings: ServiceSettings, runtime: Runtime) -> AsyncIterator[None]:
    """The toy as a service."""
    async with (
        serve_http(health_app(runtime), settings.host, settings.port, limits=settings.http_limits.health),
        toy(settings.kafka, settings.database_url.get_secret_value(), runtime, identified=IDENTIFIED),
    ):
        yield


if __name__ == "__main__":
    watchdog.BLOCKED_LOOP_LIMIT_S = 2 * PATIENCE
    watchdog.EXIT_MARGIN_S *= PATIENCE
    run_service(next(itertools.islice(sys.argv, 1, None)), ServiceSettings, app)
