"""Wires the orchestrator: it consumes requests and attempt events, and publishes commands and job events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import orchestrator
from chassis.delivery.consumer import BatchConsumer
from chassis.errors import cannot_use
from chassis.http.server import health_app, serve_http
from chassis.kafka.broker import connected, make_broker
from chassis.kafka.membership import member
from chassis.kafka.outbox import Outbox
from chassis.observability.logs import get_logger
from chassis.postgres.polled_gauges import OUTBOX_GAUGES, PolledGauges, due_gauge
from chassis.postgres.pool import ONE_PLAN, database_name, latest_migration, migrate, open_pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.catalogue import CatalogueError, default_catalogue_path, load_catalogue
from contracts.topics import ATTEMPTS, COMMANDS, DEAD_LETTERS, JOBS, REQUESTS
from orchestrator.handler import JobHandler
from orchestrator.log_events import OrchestratorEvent
from orchestrator.policy_file import PolicyError, load_policies
from orchestrator.retention import job_tasks
from orchestrator.routing.planning import Routing
from orchestrator.routing.policy import Policies
from orchestrator.settings import OrchestratorSettings
from orchestrator.silence import Silence
from orchestrator.store import JOB_GAUGES
from orchestrator.timers import Timers

SCHEMA: Final = "orchestrator"
CONSUMED: Final = (REQUESTS, ATTEMPTS)
PUBLISHED: Final = (JOBS, *COMMANDS.values(), DEAD_LETTERS)


@asynccontextmanager
async def app(settings: OrchestratorSettings, runtime: Runtime) -> AsyncIterator[None]:
    """Run the orchestrator for as long as the block lasts. Raises CannotStart if a file or a server cannot be used."""
    try:
        catalogue = load_catalogue(settings.catalogue or default_catalogue_path())
        policies = load_policies(settings.routing, catalogue) if settings.routing else Policies()
    except CatalogueError as error:
        raise cannot_use("SEGUE_CATALOGUE", error) from error
    except PolicyError as error:
        raise cannot_use("SEGUE_ROUTING", error) from error
    database_url = settings.database_url.get_secret_value()
    broker = make_broker(settings.kafka, runtime.service)
    await migrate(database_url, SCHEMA, orchestrator)
    async with (
        serve_http(health_app(runtime), settings.host, settings.port, limits=settings.http_limits.health),
        open_pool(database_url, SCHEMA, runtime=runtime, planner=ONE_PLAN) as pool,
    ):
        outbox = Outbox(pool, broker, runtime)
        routing = Routing(catalogue, policies, settings.music_provider, settings.providers)
        silence = Silence(pool, runtime, settings.providers, settings.adapter_silent_s)
        timers = Timers(outbox, silence.current, runtime)
        handler = JobHandler(
            outbox, routing, silence.current, settings.keep_rows, timers.wake_within, runtime.telemetry
        )
        consumer = BatchConsumer(broker, runtime, CONSUMED, handler)
        async with (
            member(pool, settings.kafka, runtime),
            connected(broker, runtime, reads=CONSUMED, writes=PUBLISHED),
            outbox.running(),
            silence.running(timers.wake),
            consumer.running(),
            timers.running(),
            RetentionWorker(pool, runtime, SCHEMA, job_tasks(settings.keep_rows)).running(),
            PolledGauges(pool, runtime, OUTBOX_GAUGES, due_gauge("jobs"), JOB_GAUGES).running(),
        ):
            get_logger("orchestrator").info(
                OrchestratorEvent.ORCHESTRATOR_STARTED,
                music_provider=settings.music_provider,
                providers=list(settings.providers),
                models=len(catalogue.models),
                routing=str(settings.routing) if settings.routing else None,
                broker=str(settings.kafka),
                database=database_name(database_url),
                schema=f"{SCHEMA}/{latest_migration(orchestrator)}",
                topics=[settings.kafka.names.of(topic) for topic in CONSUMED],
            )
            yield
