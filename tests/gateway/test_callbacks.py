"""Providers' webhooks at the gateway's receiver: whose they are, whether they are true, and when they are taken."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs
from tests.builders import attempt_event
from tests.patience import patient

from chassis.http.server import serve_http
from contracts.callback_urls import callback_url
from contracts.envelope import Envelope, decode
from contracts.ids import AttemptId, job_id_for, job_of, number_of
from contracts.messages.attempts import AttemptSubmitted, AttemptSubmitting
from contracts.messages.base import Message
from contracts.messages.callbacks import CallbackReceived
from contracts.topics import CALLBACKS, MAX_MESSAGE_BYTES, PARTITIONS
from gateway.api.callbacks import MAX_BODY_BYTES
from gateway.app import api
from gateway.log_events import GatewayEvent
from sandbox.http.signing import Keys, fal_headers, replicate_headers
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import LocalPostgres, postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "0123456789abcdef0123456789abcdef"
TOKEN = "r8_" + "x" * 37
PROVIDERS = ("fal", "replicate")


@dataclass
class Signer:
    """The signing keys and signatures of both providers."""

    keys: Keys = field(default_factory=Keys)
    away: bool = False
    fetches: int = 0
    port: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/jwks.json", self.jwks), Route("/v1/webhooks/default/secret", self.secret)],
        )

    async def jwks(self, _request: Request) -> Response:
        self.fetches += 1
        return Response("down", 503) if self.away else JSONResponse(self.keys.jwks())

    async def secret(self, request: Request) -> Response:
        self.fetches += 1
        if self.away or request.headers["authorization"] != f"Bearer {TOKEN}":
            return Response("down", 503)
        return JSONResponse({"key": self.keys.replicate_secret()})

    def headers(self, provider: str, body: bytes, *, age_s: int = 0, delivery: str = "delivery-1") -> dict[str, str]:
        at = int(time.time()) - age_s
        if provider == "fal":
            return fal_headers(self.keys.fal[-1], delivery, at, body)
        return replicate_headers(self.keys.replicate, delivery, at, body)

    def settings(self) -> dict[str, str]:
        return {
            "SEGUE_PUBLIC_URL": "https://segue.example",
            "SEGUE_CALLBACK_SECRET": SECRET,
            "FAL_JWKS_URL": f"http://127.0.0.1:{self.port}/jwks.json",
            "REPLICATE_BASE_URL": f"http://127.0.0.1:{self.port}",
            "REPLICATE_API_TOKEN": TOKEN,
        }


@dataclass(frozen=True)
class Receiver:
    """A gateway with callbacks switched on."""

    world: Any
    signer: Signer
    kafka: str

    def url(self, provider: str, attempt: AttemptId) -> str:
        return callback_url("", SECRET, "fal" if provider == "fal" else "replicate", attempt)

    async def call(self, provider: str, attempt: AttemptId, body: bytes, headers: dict[str, str]) -> httpx.Response:
        answer: httpx.Response = await self.world.client.post(
            self.url(provider, attempt), content=body, headers=headers
        )
        return answer

    async def signed(self, provider: str, attempt: AttemptId, body: bytes, **how: Any) -> httpx.Response:
        return await self.call(provider, attempt, body, self.signer.headers(provider, body, **how))

    async def in_kafka(self, attempt: AttemptId) -> list[CallbackReceived]:
        """The messages about an attempt in the topic."""
        places = [TopicPartition(CALLBACKS.name, n) for n in range(PARTITIONS)]
        found: list[CallbackReceived] = []
        async with AIOKafkaConsumer(
            bootstrap_servers=self.kafka, auto_offset_reset="earliest", fetch_max_wait_ms=50
        ) as consumer:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        envelope = decode(record.headers, record.value)
                        assert isinstance(envelope, Envelope)
                        assert record.key.decode() == envelope.message.job_id
                        assert isinstance(envelope.message, CallbackReceived)
                        found.append(envelope.message)
        return [message for message in found if message.attempt_id == attempt]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database() -> AsyncIterator[LocalPostgres]:
    async with postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signer() -> AsyncIterator[Signer]:
    made = Signer()
    async with serve_http(made.app(), "127.0.0.1", 0) as made.port:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver(
    database: LocalPostgres,
    signer: Signer,
    world_on: Any,
    topic_sizes: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Receiver]:
    store = tmp_path_factory.mktemp("callbacks")
    async with (
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, database.url, store, **signer.settings()) as world,
    ):
        yield Receiver(world, signer, cluster.bootstrap_servers)


@pytest.fixture
def attempt(request: pytest.FixtureRequest) -> AttemptId:
    return AttemptId(f"{job_id_for('default', request.node.name)}.1")


def callbacks(provider: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("segue_callbacks_total", {"provider": provider, "outcome": outcome}) or 0.0


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_genuine_callback_is_in_kafka_before_it_is_answered(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    body = b'{"request_id": "r-1", "id": "r1", "status": "OK", "payload": null, "said": "\xe2\x9c\x93 \\u0000"}'
    before = callbacks(provider, "taken")
    answer = await receiver.signed(provider, attempt, body)
    assert (answer.status_code, answer.content) == (204, b"")
    (message,) = await receiver.in_kafka(attempt)
    assert (message.provider, message.delivery_id) == (provider, "delivery-1")
    assert message.body == body.decode()
    assert callbacks(provider, "taken") == before + 1
    job = await receiver.world.client.get(f"/api/jobs/{message.job_id}")
    assert job.status_code == 404  # A callback creates no job.


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_repeated_callback_is_accepted_as_the_same_event(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    for _ in range(2):
        assert (await receiver.signed(provider, attempt, b"{}", delivery="d-7")).status_code == 204
    first, second = await receiver.in_kafka(attempt)
    assert first.event_id == second.event_id


def invalid_addresses(url: str) -> list[str]:
    head, _, mac = url.rpartition("/")
    base, _, attempt = head.rpartition("/")
    return [
        f"{head}/{'0' * 64}",
        f"{head}/{mac[:-1]}",
        f"{head}/{mac.upper()}x",
        f"{head}/%C3%A4",
        f"{base}/{attempt[:-1]}2/{mac}",
        f"{base}/nothing/{mac}",
        f"/api/callbacks/replicate/{attempt}/{mac}",
        f"/api/callbacks/other/{attempt}/{mac}",
        head,
    ]


async def test_an_invalid_address_is_a_404(receiver: Receiver, attempt: AttemptId) -> None:
    before, fetches = callbacks("fal", "wrong-address"), receiver.signer.fetches
    for url in invalid_addresses(receiver.url("fal", attempt)):
        # Neither the size nor the signature is checked.
        answer = await receiver.world.client.post(url, content=b"x" * (MAX_BODY_BYTES + 1))
        missing = await receiver.world.client.post("/api/nothing/here")
        assert (answer.status_code, answer.json()["type"]) == (404, missing.json()["type"])
    assert callbacks("fal", "wrong-address") > before
    assert callbacks("other", "wrong-address") == 1
    assert receiver.signer.fetches == fetches
    assert await receiver.in_kafka(attempt) == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_forged_changed_old_and_unsigned_callbacks_are_refused(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    body = b'{"id": "r1"}'
    forger = Signer()
    genuine = receiver.signer.headers(provider, body)
    for headers, sent in (
        (forger.headers(provider, body), body),
        (genuine, body + b" "),
        (receiver.signer.headers(provider, body, age_s=3600), body),
        (receiver.signer.headers(provider, body, age_s=-3600), body),
        (receiver.signer.headers("replicate" if provider == "fal" else "fal", body), body),
        ({}, body),
        (dict.fromkeys(genuine, "?"), body),
    ):
        answer = await receiver.call(provider, attempt, sent, headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:segue:problem:bad-signature")
    assert await receiver.in_kafka(attempt) == []
    assert callbacks(provider, "bad-signature") >= 7


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_logged_reason_has_nothing_of_a_forged_callback(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    body = b'{"id": "r1"}'
    with capture_logs() as lines:
        for age_s in (400, 500, 600):
            stranger = Signer().headers(provider, body, age_s=age_s)
            assert (await receiver.call(provider, attempt, body, stranger)).status_code == 401
            old = receiver.signer.headers(provider, body, age_s=age_s)
            assert (await receiver.call(provider, attempt, body, old)).status_code == 401
    logged = [(line["reason"], line["detail"]) for line in lines if line["event"] == GatewayEvent.CALLBACK_REJECTED]
    assert len(logged) == 6
    assert {reason for reason, _ in logged} == {"bad-signature"}
    # The age is reported only if the provider has signed it.
    assert sum("signed 4" in detail or "signed 5" in detail or "signed 6" in detail for _, detail in logged) == 3


def run_body(provider: str, run: str, **more: Any) -> bytes:
    return json.dumps({"request_id" if provider == "fal" else "id": run, "status": "OK", **more}).encode()


def accepted(provider: str, attempt: AttemptId, run: str | None) -> Message:
    """The event of the adapter after the answer to the submit, or, without a run, before it."""
    job_id, n, now = job_of(attempt), number_of(attempt), datetime.now(UTC)
    if run is None:
        return attempt_event(AttemptSubmitting, job_id, n, 1, now, provider=provider)
    return attempt_event(AttemptSubmitted, job_id, n, 2, now, provider=provider, provider_ref=run)


def refused(answer: httpx.Response, kind: str) -> bool:
    return (answer.status_code, answer.json()["type"]) == (409, f"urn:segue:problem:{kind}")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_genuine_callback_at_the_address_of_another_attempt_is_refused(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    run, others = f"run-of-{attempt[:8]}", f"run-of-{other[:8]}"
    await receiver.world.store(accepted(provider, attempt, run), accepted(provider, other, others))
    before = callbacks(provider, "callback-of-another-attempt")
    for _ in range(2):
        answer = await receiver.signed(provider, attempt, run_body(provider, others))
        assert refused(answer, "callback-of-another-attempt")
    assert callbacks(provider, "callback-of-another-attempt") == before + 2
    assert refused(await receiver.signed(provider, attempt, run_body(provider, "nobodys")), "callback-of-another-run")
    assert callbacks(provider, "callback-of-another-run") >= 1
    assert await receiver.in_kafka(attempt) == []
    for address, own in ((attempt, run), (other, others)):
        assert (await receiver.signed(provider, address, run_body(provider, own))).status_code == 204
        assert len(await receiver.in_kafka(address)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_callback_before_the_answer_to_the_submit_is_accepted_unless_another_attempt_has_the_run(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    others = f"run-of-{other[:8]}"
    await receiver.world.store(accepted(provider, attempt, None), accepted(provider, other, others))
    assert (await receiver.signed(provider, attempt, run_body(provider, "unknown"))).status_code == 204
    assert (await receiver.signed(provider, attempt, run_body(provider, "new"), delivery="d-2")).status_code == 204
    assert (await receiver.signed(provider, attempt, b'{"status": "OK"}', delivery="d-3")).status_code == 204
    assert refused(await receiver.signed(provider, attempt, run_body(provider, others)), "callback-of-another-attempt")
    assert len(await receiver.in_kafka(attempt)) == 3


async def test_a_prediction_with_another_callback_address_is_refused_before_its_run_is_known(
    receiver: Receiver, attempt: AttemptId
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    for address, status in ((other, 409), (attempt, 204)):
        body = run_body("replicate", "new-run", webhook=f"https://segue.example{receiver.url('replicate', address)}")
        assert (await receiver.signed("replicate", attempt, body)).status_code == status
    elsewhere = run_body("replicate", "new-run", webhook="https://example.com/hook")
    assert (await receiver.signed("replicate", attempt, elsewhere, delivery="d-2")).status_code == 204


async def test_a_run_of_the_same_id_at_another_provider_makes_no_difference(
    receiver: Receiver, attempt: AttemptId
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    await receiver.world.store(accepted("replicate", other, "same-id"))
    assert (await receiver.signed("fal", attempt, run_body("fal", "same-id"))).status_code == 204


async def test_without_the_database_the_check_of_the_run_is_left_to_the_adapter(
    signer: Signer, world_on: Any, topic_sizes: dict[str, int], attempt: AttemptId, tmp_path: Path
) -> None:
    async with (
        postgres() as own,
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, own.url, tmp_path, **signer.settings()) as world,
    ):
        receiver = Receiver(world, signer, cluster.bootstrap_servers)
        await world.store(accepted("fal", attempt, "known"))
        assert (await receiver.signed("fal", attempt, run_body("fal", "other"))).status_code == 409
        await own.stop("immediate")
        assert (await receiver.signed("fal", attempt, run_body("fal", "other"))).status_code == 204
        assert len(await receiver.in_kafka(attempt)) == 1
        await own.start()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_invalid_callback_request_gets_a_definite_answer(
    receiver: Receiver, attempt: AttemptId, provider: str
) -> None:
    url = receiver.url(provider, attempt)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await receiver.world.client.request(method, url)
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    packed = gzip.compress(b"{}")
    headers = receiver.signer.headers(provider, packed) | {"content-encoding": "gzip"}
    assert (await receiver.call(provider, attempt, packed, headers)).status_code == 415
    assert "gzip" in (await receiver.signed(provider, attempt, packed)).json()["detail"]
    assert "byte order mark" in (await receiver.signed(provider, attempt, b"\xef\xbb\xbf{}")).json()["detail"]
    for body in (b'{"request_id": "\\ud800", "id": "\\ud800"}', b'{"request_id": "a\\u0000", "id": [1]}', b"[]", b"7"):
        assert (await receiver.signed(provider, attempt, body, delivery=str(len(body)))).status_code == 204


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_new_key_is_accepted_once_the_provider_has_published_it(
    database: LocalPostgres, receiver: Receiver, attempt: AttemptId, world_on: Any, tmp_path: Path, provider: str
) -> None:
    own = Signer()
    async with (
        serve_http(own.app(), "127.0.0.1", 0) as own.port,
        world_on(receiver.kafka, database.url, tmp_path, **own.settings()) as world,
    ):
        fresh = Receiver(world, own, receiver.kafka)
        assert (await fresh.signed(provider, attempt, b"{}")).status_code == 204
        own.keys.rotate()
        assert (await fresh.signed(provider, attempt, b"{}")).status_code == 204
        assert own.fetches == 2
        for _ in range(5):
            refused = await fresh.call(provider, attempt, b"{}", Signer().headers(provider, b"{}"))
            assert refused.status_code == 401
        assert own.fetches == 2  # Unknown keys are not fetched again for some seconds.


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_keys_the_answer_is_a_503(
    database: LocalPostgres,
    receiver: Receiver,
    attempt: AttemptId,
    world_on: Any,
    tmp_path: Path,
    provider: str,
    until: Any,
) -> None:
    async with world_on(receiver.kafka, database.url, tmp_path, **receiver.signer.settings()) as world:
        fresh = Receiver(world, receiver.signer, receiver.kafka)
        receiver.signer.away = True
        try:
            answer = await fresh.signed(provider, attempt, b"{}")
        finally:
            receiver.signer.away = False
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:signing-keys-away")
        assert TOKEN not in answer.text

        async def taken() -> bool:
            return bool((await fresh.signed(provider, attempt, b"{}")).status_code == 204)

        await until(taken)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff{}", b'{"a": "\xed\xa0\x80"}', b"[" * 100_000, b"\x00"])
async def test_a_signed_body_that_is_not_json_is_refused(receiver: Receiver, attempt: AttemptId, body: bytes) -> None:
    answer = await receiver.signed("fal", attempt, body)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:segue:problem:malformed-json")
    assert await receiver.in_kafka(attempt) == []


async def test_the_largest_body_fits_into_kafka_and_a_larger_one_is_refused(
    receiver: Receiver, attempt: AttemptId
) -> None:
    # JSON escapes every character except the first and the last.
    most = b'"' + b'\\"' * ((MAX_BODY_BYTES - 2) // 2) + b'"'
    assert len(most) == MAX_BODY_BYTES
    assert (await receiver.signed("fal", attempt, most)).status_code == 204
    (message,) = await receiver.in_kafka(attempt)
    assert message.body == most.decode()
    assert len(message.model_dump_json()) < MAX_MESSAGE_BYTES - 50_000
    answer = await receiver.signed("fal", attempt, most + b" ")
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:segue:problem:body-too-large")


async def test_a_body_of_three_megabytes_is_not_read_to_its_end(receiver: Receiver, attempt: AttemptId) -> None:
    async with serve_http(api(receiver.world.parts), "127.0.0.1", 0) as port:
        url = receiver.url("fal", attempt)
        with socket.create_connection(("127.0.0.1", port), timeout=patient(60)) as client:
            head = f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
            client.sendall(head.encode())
            answer = await asyncio.to_thread(client.recv, 4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert callbacks("fal", "body-too-large") >= 1


async def test_a_callback_that_kafka_has_not_confirmed_is_a_503(
    database: LocalPostgres,
    signer: Signer,
    world_on: Any,
    topic_sizes: dict[str, int],
    attempt: AttemptId,
    tmp_path: Path,
) -> None:
    async with kafka(topic_sizes) as cluster:
        context = world_on(cluster.bootstrap_servers, database.url, tmp_path, **signer.settings())
        world = await context.__aenter__()
        receiver = Receiver(world, signer, cluster.bootstrap_servers)
        assert (await receiver.signed("fal", attempt, b"{}")).status_code == 204
    try:
        began = time.monotonic()
        answer = await receiver.signed("fal", attempt, b"{}")
        assert time.monotonic() - began < patient(15), "the time that fal waits"
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:not-confirmed")
    finally:
        await context.__aexit__(None, None, None)


async def test_without_a_public_url_callbacks_are_a_404(
    database: LocalPostgres, receiver: Receiver, attempt: AttemptId, world_on: Any, tmp_path: Path
) -> None:
    settings = receiver.signer.settings()
    del settings["SEGUE_PUBLIC_URL"]
    async with world_on(receiver.kafka, database.url, tmp_path, **settings) as world:
        answer = await Receiver(world, receiver.signer, receiver.kafka).signed("fal", attempt, b"{}")
    assert answer.status_code == 404


async def test_neither_logs_nor_traces_have_the_mac(
    receiver: Receiver, attempt: AttemptId, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.world.spans.clear()
    with capture_logs() as lines:
        assert (await receiver.signed("fal", attempt, b"{}")).status_code == 204
        assert (await receiver.call("fal", attempt, b"{}", {})).status_code == 401
    mac = receiver.url("fal", attempt).rpartition("/")[2]
    logged = json.dumps([dict(span.attributes) for span in receiver.world.spans.get_finished_spans()], default=str)
    assert f"/api/callbacks/fal/{attempt}/***" in logged
    assert mac not in logged
    assert {GatewayEvent.CALLBACK_ACCEPTED, GatewayEvent.CALLBACK_REJECTED} <= {line["event"] for line in lines}
    assert mac not in str(lines)
    assert mac not in caplog.text, "records of libraries"
