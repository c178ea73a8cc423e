"""Messages that can be decoded but hold absurd values: no handler raises.

If a handler raised, one such message would cost three tries, a traceback and a step towards the dead-letter limit.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from aiokafka import ConsumerRecord
from tests.builders import claim_nothing, nobody_silent

import adapter_kit
import log_sink
import orchestrator
from adapter_kit.breaker.policy import Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine.callback_monitor import CallbackMonitor
from adapter_kit.engine.callbacks import Callbacks
from adapter_kit.engine.command_handler import CommandHandler
from adapter_kit.settings import AdapterSettings
from chassis.delivery.consumer import Delivered
from chassis.kafka.broker import make_broker
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import migrate, open_pool
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.catalogue import default_catalogue_path, load_catalogue
from contracts.envelope import Envelope, Undecodable, decode
from contracts.ids import job_id_for
from contracts.providers.registry import PROVIDERS
from contracts.topics import MESSAGE_TYPES, TOPICS, ServiceName
from fal_adapter.provider import fal_provider
from gateway.queries.tail import JobTail
from log_sink.store import Store
from orchestrator.handler import JobHandler
from orchestrator.routing.planning import Routing
from orchestrator.routing.policy import Policies
from orchestrator.timers import Timers

EXAMPLES = Path(__file__).parents[2] / "contracts" / "examples"
KEEP = timedelta(days=90)
ABSURD: tuple[Any, ...] = (
    None, True, "", " ", "\0", "\x1b[31m", "\u202e", "x" * 100_000, "é" * 70_000, "'; DROP TABLE jobs; --",
    0, -1, 1.5, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**400, -(10**400), 1e308, -1e308, 5e-324, "1", "NaN",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-12:00",
    "1970-01-01T00:00:00Z", "2026-11-22T20:16:00.123456789+05:30", -62135596800, 253402300799, 1e11,
    [], {}, {"": ""}, {"\0": "\0"}, {"k" * 50_000: "v"}, ["\0"], [1e308] * 1000, [[[[[[[[[[]]]]]]]]]],
)  # fmt: skip
UNKNOWN_FIELDS: tuple[bytes, ...] = (
    rb'"\u0000"', rb'"\u0000\\u0000"', rb'{"\u0000": 1}', b"1e400000", b"-1e-400000", b"1" * 4_000,
    b"[" * 150 + b"]" * 150,
)  # fmt: skip
"""Values of a field that this version does not have: valid JSON, some of which jsonb refuses."""

TIMESTAMPS = (-1, -(2**63), 2**63 - 1, 253402300800000)
HEADERS = (("ce_id", "x" * 5000), ("ce_id", "\0"), ("ce_source", "\0"), ("traceparent", "\0" * 55))

Handler = Callable[[Sequence[Delivered]], Awaitable[None]]


def example(kind: str) -> dict[str, Any]:
    """The golden example of a message type, about a first attempt, with deadlines in the future."""
    made: dict[str, Any] = json.loads(min((EXAMPLES / kind).iterdir()).read_text())
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made["value"] |= {name: later for name in ("accept_by", "deadline_at") if name in made["value"]}
    made["value"] |= {name: 1 for name in ("n",) if name in made["value"]}
    made["value"] |= {
        name: f"{made['value']['job_id']}.1" for name in ("attempt_id", "from_attempt_id") if name in made["value"]
    }
    return made


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a body."""
    if here:
        yield here
    if isinstance(value, dict):
        for name in value:
            yield from paths(value[name], (*here, name))
    elif isinstance(value, list):
        for place in range(len(value)):
            yield from paths(value[place], (*here, place))


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the body with another value at the path."""
    made = copy.deepcopy(body)
    at = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


def absurd_bodies(body: Any) -> Iterator[tuple[str, bytes]]:
    """Bodies with one absurd value each, after a description of it."""
    for path in paths(body):
        for value in ABSURD:
            raw = json.dumps(changed(body, path, value)).encode()
            yield f"{'.'.join(map(str, path))} = {str(value)[:40]!r}", raw
    whole = json.dumps(body).encode()
    for raw in UNKNOWN_FIELDS:
        yield f"a new field = {raw[:40]!r}", whole[:-1] + b', "new": ' + raw + b"}"


def record(topic: str, value: bytes, timestamp: int, headers: dict[str, str]) -> Any:
    return ConsumerRecord(
        topic=topic,
        partition=0,
        offset=0,
        timestamp=timestamp,
        timestamp_type=0,
        key=b"key",
        value=value,
        checksum=None,
        serialized_key_size=3,
        serialized_value_size=len(value),
        headers=tuple((name, text.encode()) for name, text in headers.items()),
    )


def delivered(kind: str, body: bytes, job: str, timestamp: int | None = None, **headers: str) -> Delivered | None:
    """An example with another body, as a handler receives it, about the given job; None if it cannot be decoded."""
    sent = example(kind)
    raw = body.replace(sent["value"]["job_id"].encode(), job.encode())
    now = int(datetime.now(UTC).timestamp() * 1000) if timestamp is None else timestamp
    one = record(sent["topic"], raw, now, sent["headers"] | {"ce_id": f"{kind} {job}"} | headers)
    try:
        found = decode(one.headers, one.value)
    except Undecodable:
        return None
    assert isinstance(found, Envelope)
    return Delivered(found.message, found.event_id, found.traceparent, one)


def hostile(kind: str) -> Iterator[tuple[str, Delivered]]:
    """Deliveries of an example with an absurd value that can be decoded, each about another job, with descriptions."""
    body = example(kind)["value"]
    plain = json.dumps(body).encode()
    cases: list[tuple[str, bytes, dict[str, Any]]] = [(what, raw, {}) for what, raw in absurd_bodies(body)]
    cases += [(f"a timestamp of {moment}", plain, {"timestamp": moment}) for moment in TIMESTAMPS]
    cases += [(f"{name} = {text[:10]!r}", plain, {name: text}) for name, text in HEADERS]
    for n, (what, raw, other) in enumerate(cases):
        one = delivered(kind, raw, job_id_for(kind, str(n)), **other)
        if one is not None:
            yield what, one


def runtime_of(service: ServiceName) -> Runtime:
    return Runtime(service, make_telemetry(service, None))


@pytest_asyncio.fixture
async def handlers(database_url: str) -> AsyncIterator[dict[ServiceName, Handler]]:
    """The handlers of the services, each on its own schema; nothing is published."""
    made: dict[ServiceName, Handler] = {}
    for schema, package in (("orchestrator", orchestrator), ("fal_adapter", adapter_kit), ("log_sink", log_sink)):
        await migrate(database_url, schema, package)
    async with (
        open_pool(database_url, "orchestrator", max_size=2) as jobs,
        open_pool(database_url, "fal_adapter", max_size=2) as ledger,
        open_pool(database_url, "log_sink", max_size=2) as log,
        fal_provider("id:secret", api_url="http://127.0.0.1:9", submit_timeout_s=1) as fal,
    ):
        broker = make_broker(KafkaCluster("127.0.0.1:9"), "test")
        runtime = runtime_of("orchestrator")
        routing = Routing(load_catalogue(default_catalogue_path()), Policies(), "fal", tuple(PROVIDERS))
        made["orchestrator"] = JobHandler(
            Outbox(jobs, broker, runtime), routing, nobody_silent, KEEP, lambda _: None, runtime.telemetry
        )
        given = {"kafka_bootstrap_servers": "127.0.0.1:9", "database_url": database_url}
        settings = AdapterSettings.model_validate(given)
        outbox = Outbox(ledger, broker, runtime_of("fal-adapter"))
        callbacks, breakers = Callbacks(fal, CallbackMonitor("fal")), BreakerStore(Limits(), 60)
        made["fal-adapter"] = CommandHandler(
            "fal", settings, outbox, claim_nothing, callbacks, breakers, results_kept_s=3_600
        )
        made["log-sink"] = Store(log).store
        yield made


@pytest_asyncio.fixture
async def timers(database_url: str, handlers: dict[ServiceName, Handler]) -> AsyncIterator[Timers]:
    """The orchestrator's timers, on the same schema as its handler."""
    assert "orchestrator" in handlers
    runtime = runtime_of("orchestrator")
    async with open_pool(database_url, "orchestrator", max_size=2) as jobs:
        yield Timers(Outbox(jobs, make_broker(KafkaCluster("127.0.0.1:9"), "test"), runtime), nobody_silent, runtime)


async def refused(handler: Handler, batch: Sequence[tuple[str, Delivered]]) -> dict[str, str]:
    """The messages for which the handler raises, with the errors; the batch is halved until a message is alone."""
    try:
        await handler([one for _, one in batch])
    except Exception as error:  # noqa: BLE001 - any exception is a finding
        if len(batch) == 1:
            return {batch[0][0]: repr(error)[:200]}
        middle = len(batch) // 2
        return await refused(handler, batch[:middle]) | await refused(handler, batch[middle:])
    return {}


def feed_tail(batch: Sequence[Delivered]) -> None:
    """Feed the batch to the gateway's tail."""
    tail = JobTail()
    for one in batch:
        tail.take(Envelope(one.message, one.event_id, "", one.traceparent), None)


async def prepare(service: ServiceName, handler: Handler, kind: str, jobs: Sequence[str]) -> None:
    """Give a service the jobs that the messages are about, each with an attempt."""
    first = {"orchestrator": "segue.job.requested.v1", "fal-adapter": "segue.attempt.run.v1"}.get(service)
    if first in (None, kind):
        return
    body = json.dumps(example(first)["value"]).encode()
    known = [delivered(first, body, job) for job in jobs]
    await handler([one for one in known if one is not None])


@pytest.mark.parametrize("kind", sorted(MESSAGE_TYPES))
async def test_no_handler_raises_for_the_values_in_a_message(kind: str, handlers: dict[ServiceName, Handler]) -> None:
    batch = list(hostile(kind))
    assert len(batch) > 10
    raised: dict[str, dict[str, str]] = {}
    topics = [topic for topic in TOPICS if MESSAGE_TYPES[kind] in topic.carries]
    for service in {group for topic in topics for group in topic.groups} & handlers.keys():
        await prepare(service, handlers[service], kind, [one.message.job_id for _, one in batch])
        raised[service] = await refused(handlers[service], batch)
    if any(topic.tails for topic in topics):
        feed_tail([one for _, one in batch])
    assert {service: found for service, found in raised.items() if found} == {}


@pytest.mark.parametrize("kind", ["segue.job.requested.v1", "segue.attempt.failed.v1"])
async def test_the_timers_decide_jobs_that_absurd_messages_have_changed(
    kind: str, handlers: dict[ServiceName, Handler], timers: Timers
) -> None:
    batch = list(hostile(kind))
    handler = handlers["orchestrator"]
    await prepare("orchestrator", handler, kind, [one.message.job_id for _, one in batch])
    await handler([one for _, one in batch])
    with structlog.testing.capture_logs() as logs:
        await timers.decide_due()
    assert [line for line in logs if line["log_level"] == "error"] == []
