"""Faults of services and of what they stand on: processes, PostgreSQL, Kafka, records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from chaos.alerts.bench import Bench
from chaos.alerts.case import case
from chaos.rows.machine.clocks import OFF_BY_S, start_off_by
from chaos.rows.probes import count, wait_for
from chassis.kafka.topics import admin
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import CALLBACKS, REQUESTS, ServiceName
from segue_cli.stack.topics import ensure_topics

COPIES: Final = 1500
"""More than the threshold of the alert."""
SLOW_S: Final = 0.4
"""Seconds for each 64 KiB that the gateway reads: a response of 1 MiB, the most of a partition, takes 6 s of its 10."""
BULK: Final = 5000
"""Records of 4 KiB, which the gateway then reads in two minutes."""
_FAULTY: Final = "before_handler_tx:1:raise"
_LATE: Final = "rows were due meanwhile, and are done one after the other"
_LEFT: Final = "an outbox row that the process left is read once more; readings, every 15 s, are not shortened"
_WAITING: Final = "messages wait, and none is handled meanwhile"
_LOCKED_OUT: Final = {"DueRowsLate": _LATE, "OutboxOld": "the transactions that hold them stand still"}


def _without(service: ServiceName) -> Callable[[Bench], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def fault(bench: Bench) -> AsyncIterator[None]:
        await asyncio.gather(*(one.kill() for one in bench.fleet.replicas(service)))
        yield

    return fault


@asynccontextmanager
async def _no_database(bench: Bench) -> AsyncIterator[None]:
    await bench.fleet.postgres.stop("immediate")
    try:
        yield
    finally:
        await bench.fleet.postgres.start()


@asynccontextmanager
async def _no_kafka(bench: Bench) -> AsyncIterator[None]:
    # Runs end meanwhile, so that outboxes have something to publish, however quick the others are.
    await bench.faults({"prompt_contains": "<slow>", "action": {"run_s": 5}})
    for job_id in filter(None, [await bench.job("<slow>") for _ in range(4)]):
        await bench.running(job_id)
    for broker in bench.fleet.brokers:
        broker.stop()
    try:
        yield
    finally:
        for broker in bench.fleet.brokers:
            broker.cont()


@asynccontextmanager
async def _no_topic(bench: Bench) -> AsyncIterator[None]:
    cluster = KafkaCluster(bench.fleet.brokers.servers)
    async with admin(cluster) as client:
        await client.delete_topics([CALLBACKS.name])
    try:
        yield
    finally:
        await ensure_topics(cluster)


@asynccontextmanager
async def _locked(bench: Bench, mode: str = "SHARE ROW EXCLUSIVE") -> AsyncIterator[None]:
    connection = await asyncpg.connect(bench.fleet.env["DATABASE_URL"])
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE orchestrator.jobs IN {mode} MODE")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def _piled_up(bench: Bench) -> AsyncIterator[None]:
    servers = bench.fleet.brokers.servers
    async with (
        # Against readers too: a repeat is dropped by what is read.
        _locked(bench, "ACCESS EXCLUSIVE"),
        AIOKafkaConsumer(REQUESTS.name, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
    ):
        # Copies of a request that was handled: they are dropped, once they are read.
        known = await consumer.getone()
        sent = [
            await producer.send(known.topic, known.value, known.key, headers=list(known.headers)) for _ in range(COPIES)
        ]
        await asyncio.gather(*sent)
        yield


@asynccontextmanager
async def _slow_way(bench: Bench) -> AsyncIterator[None]:
    replica, ways = bench.fleet.replica("gateway-1"), [broker.way for broker in bench.fleet.brokers]
    await replica.term()
    await replica.start(KAFKA_BOOTSTRAP_SERVERS=bench.fleet.brokers.servers_behind)
    await replica.ready()
    for way in ways:
        way.latency_s = SLOW_S
    # Of a type that no release has: services drop them unread, those that get them at once.
    headers = [("ce_type", b"segue.bulk.sent.v1")]
    async with AIOKafkaProducer(bootstrap_servers=bench.fleet.brokers.servers) as producer:
        sent = [
            await producer.send(REQUESTS.name, bytes(4096), b"bulk", partition=0, headers=headers) for _ in range(BULK)
        ]
        await asyncio.gather(*sent)
    try:
        yield
    finally:
        for way in ways:
            way.heal()


@asynccontextmanager
async def _wrong_clock(bench: Bench) -> AsyncIterator[None]:
    replica = bench.fleet.replica("gateway-1")
    await start_off_by(bench.fleet, replica, OFF_BY_S)
    try:
        await replica.ready()
        yield
    finally:
        replica.environment = {}
        await replica.term()


@asynccontextmanager
async def _overdue(bench: Bench) -> AsyncIterator[None]:
    await bench.faults({"prompt_contains": "<endless>", "action": {"never_finish": True}})
    job_id = await bench.job("<endless>", deadline_s=12)
    sql = "SELECT count(*) FROM orchestrator.jobs WHERE job_id = $1 AND state = 'running'"

    async def is_running() -> bool:
        return await count(bench.fleet, sql, job_id) == 1

    await wait_for("the job that never ends is running", is_running, 10)
    connection = await asyncpg.connect(bench.fleet.env["DATABASE_URL"])
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM orchestrator.jobs WHERE job_id = $1 FOR UPDATE", job_id)
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def _garbage(bench: Bench) -> AsyncIterator[None]:
    headers = [("ce_id", b"garbage"), ("ce_type", b"segue.job.requested.v1"), ("ce_source", b"/nowhere")]
    async with AIOKafkaProducer(bootstrap_servers=bench.fleet.brokers.servers) as producer:
        for _ in range(3):
            await producer.send_and_wait(REQUESTS.name, b"\x00 no JSON", b"garbage", headers=headers)
    yield


@asynccontextmanager
async def _faulty_release(bench: Bench) -> AsyncIterator[None]:
    await _release(bench, _FAULTY)
    try:
        yield
    finally:
        await _release(bench, None)


async def _release(bench: Bench, crash_at: str | None) -> None:
    for one in bench.fleet.replicas("orchestrator"):
        await one.term()
        await one.start(crash_at)
        await one.ready()


CASES: Final = (
    case(
        "no-adapter",
        "both replicas of an adapter are killed and stay away",
        "AdapterSilent",
        fault=_without("fal-adapter"),
        may={"OutboxOld": _LEFT, "DueRowsLate": _LATE, "Failovers": "jobs pass the silent provider over"},
    ),
    case(
        "no-orchestrator",
        "no replica of the orchestrator runs",
        "ServiceDown",
        fault=_without("orchestrator"),
        may={"OutboxOld": _LEFT, "DueRowsLate": _LATE, "NothingHandled": _WAITING},
    ),
    case("no-log-sink", "no replica of the log sink runs", "ServiceDown", fault=_without("log-sink")),
    case("no-gateway", "no replica of the gateway runs", "ServiceDown", fault=_without("gateway")),
    case(
        "no-database",
        "PostgreSQL has crashed and does not come back",
        "DependencyDown",
        fault=_no_database,
        may={
            "NothingHandled": _WAITING,
            "DueRowsLate": _LATE,
            "AdapterSilent": "no heartbeat can be written",
            "OutboxOld": "rows wait for the database",
        },
    ),
    case(
        "no-kafka",
        "every broker stands still",
        "DependencyDown",
        "OutboxOld",
        fault=_no_kafka,
        may={
            "NothingHandled": _WAITING,
            "DueRowsLate": _LATE,
            "TopicUnavailable": "no topic can be asked about",
        },
    ),
    case("no-topic", "a topic is deleted", "TopicUnavailable", fault=_no_topic),
    case("garbage", "three records that nobody can read", "DeadLetters", fault=_garbage),
    case(
        "faulty-release",
        "a release of the orchestrator that fails on every message",
        "ConsumingPaused",
        "DeadLetters",
        fault=_faulty_release,
        may={"NothingHandled": _WAITING, "DueRowsLate": _LATE},
    ),
    case(
        "locked-table",
        "a table of the orchestrator is locked by somebody",
        "NothingHandled",
        fault=_locked,
        may=_LOCKED_OUT,
        within_s=120,
    ),
    case(
        "piled-up",
        "a table of the orchestrator is locked, and 1,500 messages come meanwhile",
        "Lag",
        "NothingHandled",
        fault=_piled_up,
        may=_LOCKED_OUT,
        within_s=120,
    ),
    case(
        "slow-way",
        "the gateway gets 160 kB a second from Kafka, and 20 MB come",
        "TailBehind",
        fault=_slow_way,
        may={"ServiceDown": "it is restarted for that, and there is one"},
        within_s=120,
    ),
    case(
        "wrong-clock",
        "the clock of the gateway is ten minutes ahead",
        "ClocksDiffer",
        fault=_wrong_clock,
        may={"ServiceDown": "it is restarted for that, and there is one"},
    ),
    case(
        "overdue",
        "a job's row is locked by somebody beyond its deadline",
        "JobsOverdue",
        fault=_overdue,
        may={"DueRowsLate": "the row is due and cannot be taken", "NothingHandled": _WAITING},
        within_s=120,
    ),
)
