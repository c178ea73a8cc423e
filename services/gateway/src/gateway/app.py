"""Wires the gateway: its components, the API, and the order in which they start and stop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware import Middleware

import gateway
from chassis.artifact_check import store_checked
from chassis.artifacts import ArtifactStore
from chassis.delivery.tail import Tail
from chassis.errors import cannot_use
from chassis.http.health import serve_health
from chassis.http.listener import places
from chassis.http.other_loop import OnLoop
from chassis.http.server import health_routes, serve_http
from chassis.kafka.broker import connected, make_broker
from chassis.observability.logs import get_logger
from chassis.postgres.pool import database_name, migrate, open_pool
from chassis.postgres.retention import RetentionWorker
from chassis.runtime.runtime import Runtime
from contracts.catalogue import Catalogue, CatalogueError, default_catalogue_path, load_catalogue
from contracts.generation import Provider
from contracts.topics import TOPICS
from gateway.api import artifacts, attempts, callbacks, catalogue, docs, error_answers, jobs, providers, tracks
from gateway.clocks import Clocks
from gateway.context import Gateway
from gateway.http import problem_document
from gateway.http.accounts import Accounts
from gateway.http.direct import DirectPost
from gateway.http.methods import EveryMethod
from gateway.http.plain import PlainJSON
from gateway.http.tracing import TracedCalls
from gateway.intake.idempotency import Fingerprints, key_tasks
from gateway.intake.publisher import PRODUCER_TIMEOUT_S, Publisher
from gateway.log_events import GatewayEvent
from gateway.places import SHARE, Places
from gateway.queries.await_completion import Completion
from gateway.queries.database import Database, begin_request
from gateway.queries.lookup import Lookup
from gateway.queries.provider_status import HealthReader, ProviderStatusReader
from gateway.queries.read_model_sql import ReadModel
from gateway.queries.tail import JobTail
from gateway.settings import GatewaySettings
from gateway.signatures.settings import signature_values
from gateway.signatures.verifier import Verifier, verifiers
from gateway.views.jobs import Presenter

SCHEMA = "gateway"
_PUBLISHED = tuple(topic for topic in TOPICS if "gateway" in topic.producers and topic.carries)
_TAILED = tuple(topic for topic in TOPICS if "gateway" in topic.tails)


@asynccontextmanager
async def gateway_app(settings: GatewaySettings, runtime: Runtime) -> AsyncIterator[None]:
    """Run the gateway: all components and the HTTP server."""
    limits = settings.http_limits
    operators = OnLoop() if settings.operator_calls == "health" else None
    async with (
        serve_health(runtime, settings.health_host, settings.health_port, limits=limits.health, others=operators),
        wired(settings, runtime) as parts,
        operators.serving(operators_api(parts)) if operators else nullcontext(),
        serve_http(api(parts), settings.host, settings.port, limits=limits),
    ):
        yield


@asynccontextmanager
async def wired(
    settings: GatewaySettings, runtime: Runtime, wall: Callable[[], float] = time.time
) -> AsyncIterator[Gateway]:
    """The running components, without the HTTP server; `wall` is this machine's clock. Raises CannotStart."""
    catalogue = _catalogue(settings)
    store = ArtifactStore.open(settings.artifact_store_url)
    runtime.depends_on("artifact_store", store.dependency)
    database_url = settings.database_url.get_secret_value()
    await migrate(database_url, SCHEMA, gateway)
    broker = make_broker(settings.kafka, runtime.service, idempotent=False, request_timeout_s=PRODUCER_TIMEOUT_S)
    tail = JobTail()
    clocks = Clocks(wall)
    events = Tail(
        settings.kafka,
        _TAILED,
        tail.take,
        runtime,
        has_taken=tail.has_taken,
        now_s=lambda: clocks.kafka_now().timestamp(),
    )
    async with (
        open_pool(database_url, SCHEMA, runtime=runtime) as pool,
        clocks.watched(pool, runtime),
        _verifiers(settings) as webhooks,
        connected(broker, runtime, reads=_TAILED, writes=_PUBLISHED),
        events.running(),
        RetentionWorker(pool, runtime, SCHEMA, key_tasks(settings.keep_rows)).running(),
        store_checked(store, runtime, right="read"),
    ):
        database = Database(pool)
        lookup = Lookup(tail, ReadModel(database), events.catch_up, clocks.now)
        share = max(1, places(settings.max_connections) // SHARE)
        _log_start(settings, catalogue)
        yield Gateway(
            settings=settings,
            runtime=runtime,
            catalogue=catalogue,
            clocks=clocks,
            tail=tail,
            lookup=lookup,
            publisher=Publisher(broker, runtime.telemetry, clocks, tail),
            completion=Completion(lookup, tail, runtime.stopping, Places(share)),
            fingerprints=Fingerprints(database),
            health=HealthReader(database, settings.providers),
            providers=ProviderStatusReader(database),
            store=store,
            downloads=Places(share),
            present=Presenter(settings.public_url or "", settings.trace_url),
            verifiers=webhooks,
        )


def api(parts: Gateway) -> FastAPI:
    """The ASGI application of a gateway."""
    app = _without_routes(parts)
    serve, answer = tracks.serve_create_track, error_answers.answer_to
    # At the end of the list it is the innermost one.
    app.user_middleware.append(Middleware(DirectPost, path=tracks.router.prefix, serve=serve, answer=answer))
    for resource in (tracks, jobs, attempts, artifacts, catalogue, providers, callbacks):
        app.include_router(resource.router)
    if parts.settings.operator_calls == "api":
        app.include_router(attempts.operator_router)
    app.router.routes.extend(health_routes(parts.runtime))
    docs.install(app)
    return app


def operators_api(parts: Gateway) -> FastAPI:
    """The ASGI application with the calls about attempts alone, for operators."""
    app = _without_routes(parts)
    app.include_router(attempts.router)
    app.include_router(attempts.operator_router)
    return app


def _without_routes(parts: Gateway) -> FastAPI:
    app = FastAPI(
        title="Segue",
        version=version("segue-gateway"),
        description="One request becomes one job that ends well if any provider can do it.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        default_response_class=PlainJSON,
    )
    app.state.gateway = parts
    app.add_middleware(EveryMethod)
    reads = parts.settings.trace_reads
    app.add_middleware(TracedCalls, telemetry=parts.runtime.telemetry, begin=begin_request, reads=reads)
    access_log = parts.settings.access_log == "on"
    app.add_middleware(Accounts, telemetry=parts.runtime.telemetry, access_log=access_log)
    problem_document.install(app)
    error_answers.install(app)
    return app


def _catalogue(settings: GatewaySettings) -> Catalogue:
    try:
        return load_catalogue(settings.catalogue or default_catalogue_path())
    except CatalogueError as error:
        raise cannot_use("SEGUE_CATALOGUE", error) from None


def _verifiers(settings: GatewaySettings) -> AbstractAsyncContextManager[Mapping[Provider, Verifier]]:
    """The verifiers of providers' callbacks; none if callbacks are switched off."""
    if settings.public_url is None:
        return nullcontext({})
    return verifiers(signature_values(settings))


def _log_start(settings: GatewaySettings, catalogue: Catalogue) -> None:
    get_logger("gateway").info(
        GatewayEvent.GATEWAY_STARTING,
        default_provider=settings.music_provider,
        providers=list(settings.providers),
        broker=str(settings.kafka),
        database=database_name(settings.database_url.get_secret_value()),
        artifact_store=settings.artifact_store_url.partition("?")[0],
        models=len(catalogue.models),
        callbacks=settings.public_url or "off",
    )
