"""Wires the log sink: database, consumer, retention, health endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

import log_sink
from chassis.artifact_check import store_checked
from chassis.artifacts import ArtifactStore
from chassis.delivery.consumer import BatchConsumer
from chassis.http.server import health_app, serve_http
from chassis.kafka.broker import connected, make_broker
from chassis.kafka.membership import member
from chassis.kafka.subscriber import Gather
from chassis.observability.logs import get_logger
from chassis.postgres.polled_gauges import PolledGauges
from chassis.postgres.pool import ONE_PLAN, database_name, latest_migration, migrate, open_pool
from chassis.postgres.retention import RetentionTask, RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.topics import DEAD_LETTERS, TOPICS
from log_sink.log_events import LogSinkEvent
from log_sink.retention.artifact_expiry import artifact_expiry_task
from log_sink.retention.partitions import partitions_kept
from log_sink.retention.rows import log_tasks
from log_sink.settings import SinkSettings
from log_sink.store import QUARANTINE_GAUGE, Store

SERVICE: Final = "log-sink"
SCHEMA: Final = "log_sink"
GATHER: Final = Gather(min_bytes=512 * 1024, within_ms=100)
"""A job's events follow each other within milliseconds, and one transaction for many of them costs less than several.
Whoever asks the API meanwhile is answered from the topics' tail."""
POOL_SIZE: Final = 5
"""The most connections to PostgreSQL: a process stores one batch at a time."""
CONSUMED: Final = tuple(topic for topic in TOPICS if SERVICE in topic.groups)


@asynccontextmanager
async def app(settings: SinkSettings, runtime: Runtime) -> AsyncIterator[None]:
    """Run the log sink for as long as the block lasts. Raises CannotStart if a server or a store cannot be used."""
    url = settings.database_url.get_secret_value()
    await migrate(url, SCHEMA, log_sink)
    artifacts = _artifact_store(settings, runtime)
    async with (
        serve_http(health_app(runtime), settings.host, settings.port, limits=settings.http_limits.health),
        open_pool(url, SCHEMA, max_size=POOL_SIZE, runtime=runtime, planner=ONE_PLAN) as pool,
        partitions_kept(pool, runtime),
        RetentionWorker(pool, runtime, SCHEMA, _tasks(settings, artifacts)).running(),
        nullcontext() if artifacts is None else store_checked(artifacts, runtime, right="list"),
        PolledGauges(pool, runtime, QUARANTINE_GAUGE).running(),
    ):
        broker = make_broker(settings.kafka, SERVICE)
        store = Store(pool)
        consumer = BatchConsumer(
            broker, runtime, CONSUMED, store.store, keep=store.quarantine, settled=store.note_read, gather=GATHER
        )
        async with (
            member(pool, settings.kafka, runtime),
            connected(broker, runtime, reads=CONSUMED, writes=(DEAD_LETTERS,)),
            consumer.running(),
        ):
            get_logger("log_sink").info(
                LogSinkEvent.LOG_SINK_STARTED,
                broker=str(settings.kafka),
                database=database_name(url),
                schema_version=latest_migration(log_sink),
                topics=[settings.kafka.names.of(topic) for topic in CONSUMED],
                keep_rows_days=settings.row_retention_days,
                keep_artifacts_days=settings.artifact_retention_days or "for ever",
            )
            yield


def _artifact_store(settings: SinkSettings, runtime: Runtime) -> ArtifactStore | None:
    """The store whose files expire; None if they are kept for ever."""
    if settings.keep_artifacts is None or settings.artifact_store_url is None:
        return None
    store = ArtifactStore.open(settings.artifact_store_url, writing=True)
    runtime.depends_on("artifact_store", store.dependency)
    return store


def _tasks(settings: SinkSettings, artifacts: ArtifactStore | None) -> tuple[RetentionTask, ...]:
    tasks = log_tasks(settings.keep_rows)
    if settings.keep_artifacts is None or artifacts is None:
        return tasks
    return (*tasks, artifact_expiry_task(artifacts, settings.keep_artifacts))
