"""An adapter as a service: all parts that do not depend on the provider, which is a parameter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import adapter_kit
from adapter_kit.artifacts.collector import Collector
from adapter_kit.artifacts.egress_advice import output_hosts_checked
from adapter_kit.attempt.model import Attempt
from adapter_kit.breaker.policy import PROBE_LEASE_S, Limits
from adapter_kit.breaker.probe import CredentialProbe, ProbeInterval
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine.callback_monitor import CallbackMonitor
from adapter_kit.engine.callbacks import Callbacks
from adapter_kit.engine.claim_loop import ClaimLoop
from adapter_kit.engine.command_handler import CommandHandler
from adapter_kit.engine.executor import ActionExecutor, CallbackUrl
from adapter_kit.engine.outcome_writer import OutcomeWriter
from adapter_kit.engine.reconciler import Reconciler
from adapter_kit.engine.retention import retention_tasks
from adapter_kit.gauges import adapter_gauges
from adapter_kit.heartbeat import Heartbeat
from adapter_kit.late_commands import LateCommands
from adapter_kit.log_events import AttemptEvent
from adapter_kit.port.provider import Provider
from adapter_kit.run_listing import RunListing
from adapter_kit.settings import AdapterSettings
from chassis.artifact_check import store_checked
from chassis.artifacts import ArtifactStore
from chassis.delivery.consumer import BatchConsumer
from chassis.errors import CannotStart
from chassis.http.egress import EgressPolicy, egress_client
from chassis.http.server import health_app, serve_http
from chassis.kafka.broker import connected, make_broker
from chassis.kafka.consumer_lag import GroupProgress
from chassis.kafka.membership import member
from chassis.kafka.outbox import Outbox
from chassis.observability.logs import get_logger
from chassis.postgres.polled_gauges import OUTBOX_GAUGES, PolledGauges, due_gauge
from chassis.postgres.pool import ONE_PLAN, database_name, latest_migration, migrate, open_pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.callback_urls import callback_url
from contracts.generation import Provider as ProviderName
from contracts.providers.registry import PROVIDERS
from contracts.topics import ATTEMPTS, CALLBACKS, COMMANDS, DEAD_LETTERS


@asynccontextmanager
async def adapter(
    settings: AdapterSettings,
    runtime: Runtime,
    name: ProviderName,
    provider_opened: AbstractAsyncContextManager[Provider],
    *,
    sdk: str,
    probe_endpoint: str,
    limits: Limits,
    results_kept_s: float,
    output_hosts: Sequence[str] = (),
) -> AsyncIterator[None]:
    """Run the adapter of one provider within the block. Raises CannotStart if a setting is unusable.

    `results_kept_s`: how long the provider keeps the result of a finished run, in seconds. `output_hosts`: the known
    hosts of its outputs; a warning is logged for each that the egress rules refuse.
    """
    schema = PROVIDERS[name].schema
    database_url = settings.database_url.get_secret_value()
    topics = (COMMANDS[name], CALLBACKS)
    broker = make_broker(settings.kafka, runtime.service)
    policy, store = _egress_policy(settings), _artifact_store(settings)
    runtime.depends_on("artifact_store", store.dependency)
    callbacks_read, commands_read = (
        GroupProgress(settings.kafka, topic, runtime.service) for topic in (CALLBACKS, COMMANDS[name])
    )
    await migrate(database_url, schema, adapter_kit)
    async with (
        serve_http(health_app(runtime), settings.host, settings.port, limits=settings.http_limits.health),
        open_pool(database_url, schema, runtime=runtime, planner=ONE_PLAN) as pool,
        egress_client(policy) as client,
        provider_opened as provider,
        callbacks_read.running(),
        commands_read.running(),
    ):
        outbox = Outbox(pool, broker, runtime)
        callback_monitor = CallbackMonitor(name)
        calls = ActionExecutor(
            provider,
            Collector(client, store, max_bytes=settings.max_output_mb * 1024 * 1024),
            runtime,
            reconciler=Reconciler(provider, pool, callbacks_read),
            callback_url=_callback_url(settings),
            callback_monitor=callback_monitor,
        )
        breakers = BreakerStore(limits, settings.breaker_open_s, _probe_lease_s(settings))
        pace = ProbeInterval(settings.probe_every_s, settings.probe_shut_every_s)
        probe = CredentialProbe(provider, pool, runtime, probe_endpoint, breakers, pace)
        writer = OutcomeWriter(outbox, breakers)
        claim_loop = ClaimLoop(
            calls,
            writer,
            outbox,
            pool,
            runtime,
            concurrency=settings.concurrency,
            breakers=breakers,
            late_commands=LateCommands(commands_read, runtime),
        )
        run_listing = RunListing(
            provider,
            pool,
            runtime,
            callbacks_arrive=lambda: callback_monitor.callbacks_arrive,
            wake=claim_loop.wake,
        )
        callbacks = Callbacks(provider, callback_monitor)
        claim = claim_loop.claim_within
        handler = CommandHandler(name, settings, outbox, claim, callbacks, breakers, results_kept_s=results_kept_s)
        consumer = BatchConsumer(broker, runtime, topics, handler)
        async with (
            member(pool, settings.kafka, runtime),
            connected(broker, runtime, reads=topics, writes=(ATTEMPTS, DEAD_LETTERS)),
            outbox.running(),
            claim_loop.running(),
            consumer.running(),  # Within, since its batches start calls of the claim loop.
            probe.running(),
            run_listing.running(),
            output_hosts_checked(policy, output_hosts),
            store_checked(store, runtime, right="write"),
            PolledGauges(pool, runtime, OUTBOX_GAUGES, due_gauge("attempts"), adapter_gauges(name)).running(),
            RetentionWorker(pool, runtime, schema, retention_tasks(settings.keep_rows)).running(),
            Heartbeat(name, pool, runtime, settings.adapter_silent_s).running(),  # Last: all of the above runs.
        ):
            get_logger("adapter_kit").info(
                AttemptEvent.ADAPTER_STARTED,
                sdk=sdk,
                broker=str(settings.kafka),
                database=database_name(database_url),
                schema=f"{schema}/{latest_migration(adapter_kit)}",
                artifacts=settings.artifact_store_url.partition("?")[0],
                callbacks=settings.public_url or "off: polling",
                topics=[settings.kafka.names.of(topic) for topic in topics],
            )
            yield


def _callback_url(settings: AdapterSettings) -> CallbackUrl:
    base, secret = settings.public_url, settings.callback_secret

    def url(attempt: Attempt) -> str | None:
        if base is None or secret is None or not attempt.expects_callback:
            return None
        return callback_url(base, secret.get_secret_value(), attempt.provider, attempt.attempt_id)

    return url


def _probe_lease_s(settings: AdapterSettings) -> float:
    # Longer than a submit can take, so that there is one probe at a time.
    return max(PROBE_LEASE_S, settings.submit_timeout_s + 30)


def _egress_policy(settings: AdapterSettings) -> EgressPolicy:
    try:
        return EgressPolicy.parse(settings.egress_allow)
    except ValueError as error:
        raise CannotStart(f"SEGUE_EGRESS_ALLOW: {error}") from error


def _artifact_store(settings: AdapterSettings) -> ArtifactStore:
    try:
        return ArtifactStore.open(settings.artifact_store_url, writing=True)
    except (ValueError, OSError) as error:
        raise CannotStart(f"ARTIFACT_STORE_URL: {error}") from error
