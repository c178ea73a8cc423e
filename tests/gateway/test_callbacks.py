"""Providers' webhooks at the gateway's door: whose they are, whether they are true, and when they are taken."""

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
    """Both providers, as far as they publish keys and sign."""

    keys: Keys = field(default_factory=Keys)
    away: bool = False
    asked: int = 0
    port: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/jwks.json", self.jwks), Route("/v1/webhooks/default/secret", self.secret)],
        )

    async def jwks(self, _request: Request) -> Response:
        self.asked += 1
        return Response("down", 503) if self.away else JSONResponse(self.keys.jwks())

    async def secret(self, request: Request) -> Response:
        self.asked += 1
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
class Door:
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
        """What the topic holds about an attempt."""
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
async def door(
    database: LocalPostgres,
    signer: Signer,
    world_on: Any,
    topic_sizes: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Door]:
    store = tmp_path_factory.mktemp("callbacks")
    async with (
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, database.url, store, **signer.settings()) as world,
    ):
        yield Door(world, signer, cluster.bootstrap_servers)


@pytest.fixture
def attempt(request: pytest.FixtureRequest) -> AttemptId:
    return AttemptId(f"{job_id_for('default', request.node.name)}.1")


def counted(provider: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("segue_callbacks_total", {"provider": provider, "outcome": outcome}) or 0.0


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_true_one_is_in_kafka_before_the_provider_hears_yes(
    door: Door, attempt: AttemptId, provider: str
) -> None:
    body = b'{"request_id": "r-1", "id": "r1", "status": "OK", "payload": null, "said": "\xe2\x9c\x93 \\u0000"}'
    before = counted(provider, "taken")
    answer = await door.signed(provider, attempt, body)
    assert (answer.status_code, answer.content) == (204, b"")
    (message,) = await door.in_kafka(attempt)
    assert (message.provider, message.delivery_id) == (provider, "delivery-1")
    assert message.body == body.decode()
    assert counted(provider, "taken") == before + 1
    job = await door.world.client.get(f"/api/jobs/{message.job_id}")
    assert job.status_code == 404  # A webhook makes no job.


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_repeat_is_taken_again_and_is_the_same_event(door: Door, attempt: AttemptId, provider: str) -> None:
    for _ in range(2):
        assert (await door.signed(provider, attempt, b"{}", delivery="d-7")).status_code == 204
    first, second = await door.in_kafka(attempt)
    assert first.event_id == second.event_id


def spoiled(url: str) -> list[str]:
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


async def test_an_address_that_is_not_ours_is_not_there(door: Door, attempt: AttemptId) -> None:
    before, asked = counted("fal", "wrong-address"), door.signer.asked
    for url in spoiled(door.url("fal", attempt)):
        # Nothing of it is read or checked: not its size, not its signature.
        answer = await door.world.client.post(url, content=b"x" * (MAX_BODY_BYTES + 1))
        missing = await door.world.client.post("/api/nothing/here")
        assert (answer.status_code, answer.json()["type"]) == (404, missing.json()["type"])
    assert counted("fal", "wrong-address") > before
    assert counted("other", "wrong-address") == 1
    assert door.signer.asked == asked
    assert await door.in_kafka(attempt) == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_forged_changed_old_and_unsigned_ones_are_refused(door: Door, attempt: AttemptId, provider: str) -> None:
    body = b'{"id": "r1"}'
    forger = Signer()
    genuine = door.signer.headers(provider, body)
    for headers, sent in (
        (forger.headers(provider, body), body),
        (genuine, body + b" "),
        (door.signer.headers(provider, body, age_s=3600), body),
        (door.signer.headers(provider, body, age_s=-3600), body),
        (door.signer.headers("replicate" if provider == "fal" else "fal", body), body),
        ({}, body),
        (dict.fromkeys(genuine, "?"), body),
    ):
        answer = await door.call(provider, attempt, sent, headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:segue:problem:bad-signature")
    assert await door.in_kafka(attempt) == []
    assert counted(provider, "bad-signature") >= 7


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_a_stranger_sends_is_no_part_of_the_reason_that_is_logged(
    door: Door, attempt: AttemptId, provider: str
) -> None:
    body = b'{"id": "r1"}'
    with capture_logs() as lines:
        for age_s in (400, 500, 600):
            stranger = Signer().headers(provider, body, age_s=age_s)
            assert (await door.call(provider, attempt, body, stranger)).status_code == 401
            old = door.signer.headers(provider, body, age_s=age_s)
            assert (await door.call(provider, attempt, body, old)).status_code == 401
    told = [(line["reason"], line["detail"]) for line in lines if line["event"] == GatewayEvent.CALLBACK_REJECTED]
    assert len(told) == 6
    assert {reason for reason, _ in told} == {"bad-signature"}
    # The age is told of what the provider did sign, and not of what anybody wrote into a header.
    assert sum("signed 4" in detail or "signed 5" in detail or "signed 6" in detail for _, detail in told) == 3


def run_body(provider: str, run: str, **more: Any) -> bytes:
    return json.dumps({"request_id" if provider == "fal" else "id": run, "status": "OK", **more}).encode()


def accepted(provider: str, attempt: AttemptId, run: str | None) -> Message:
    """What the adapter says once the provider has answered; before that, that it has asked."""
    job_id, n, now = job_of(attempt), number_of(attempt), datetime.now(UTC)
    if run is None:
        return attempt_event(AttemptSubmitting, job_id, n, 1, now, provider=provider)
    return attempt_event(AttemptSubmitted, job_id, n, 2, now, provider=provider, provider_ref=run)


def refused(answer: httpx.Response, kind: str) -> bool:
    return (answer.status_code, answer.json()["type"]) == (409, f"urn:segue:problem:{kind}")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_genuine_one_sent_to_another_attempts_address_is_refused(
    door: Door, attempt: AttemptId, provider: str
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    run, others = f"run-of-{attempt[:8]}", f"run-of-{other[:8]}"
    await door.world.store(accepted(provider, attempt, run), accepted(provider, other, others))
    before = counted(provider, "callback-of-another-attempt")
    for _ in range(2):
        answer = await door.signed(provider, attempt, run_body(provider, others))
        assert refused(answer, "callback-of-another-attempt")
    assert counted(provider, "callback-of-another-attempt") == before + 2
    assert refused(await door.signed(provider, attempt, run_body(provider, "nobodys")), "callback-of-another-run")
    assert counted(provider, "callback-of-another-run") >= 1
    assert await door.in_kafka(attempt) == []
    for address, own in ((attempt, run), (other, others)):
        assert (await door.signed(provider, address, run_body(provider, own))).status_code == 204
        assert len(await door.in_kafka(address)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_one_that_overtakes_the_submits_answer_is_taken_unless_somebody_else_has_the_run(
    door: Door, attempt: AttemptId, provider: str
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    others = f"run-of-{other[:8]}"
    await door.world.store(accepted(provider, attempt, None), accepted(provider, other, others))
    assert (await door.signed(provider, attempt, run_body(provider, "who knows"))).status_code == 204
    assert (await door.signed(provider, attempt, run_body(provider, "new"), delivery="d-2")).status_code == 204
    assert (await door.signed(provider, attempt, b'{"status": "OK"}', delivery="d-3")).status_code == 204
    assert refused(await door.signed(provider, attempt, run_body(provider, others)), "callback-of-another-attempt")
    assert len(await door.in_kafka(attempt)) == 3


async def test_a_prediction_that_repeats_another_address_is_refused_before_anything_is_known(
    door: Door, attempt: AttemptId
) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    for address, status in ((other, 409), (attempt, 204)):
        body = run_body("replicate", "new-run", webhook=f"https://segue.example{door.url('replicate', address)}")
        assert (await door.signed("replicate", attempt, body)).status_code == status
    elsewhere = run_body("replicate", "new-run", webhook="https://example.com/hook")
    assert (await door.signed("replicate", attempt, elsewhere, delivery="d-2")).status_code == 204


async def test_whose_run_it_is_makes_no_difference_at_another_provider(door: Door, attempt: AttemptId) -> None:
    other = AttemptId(f"{job_id_for('default', attempt)}.1")
    await door.world.store(accepted("replicate", other, "same-id"))
    assert (await door.signed("fal", attempt, run_body("fal", "same-id"))).status_code == 204


async def test_while_the_tables_are_away_the_adapter_judges(
    signer: Signer, world_on: Any, topic_sizes: dict[str, int], attempt: AttemptId, tmp_path: Path
) -> None:
    async with (
        postgres() as own,
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, own.url, tmp_path, **signer.settings()) as world,
    ):
        door = Door(world, signer, cluster.bootstrap_servers)
        await world.store(accepted("fal", attempt, "known"))
        assert (await door.signed("fal", attempt, run_body("fal", "other"))).status_code == 409
        await own.stop("immediate")
        assert (await door.signed("fal", attempt, run_body("fal", "other"))).status_code == 204
        assert len(await door.in_kafka(attempt)) == 1
        await own.start()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_no_webhook_gets_a_definite_answer(door: Door, attempt: AttemptId, provider: str) -> None:
    url = door.url(provider, attempt)
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await door.world.client.request(method, url)
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    packed = gzip.compress(b"{}")
    headers = door.signer.headers(provider, packed) | {"content-encoding": "gzip"}
    assert (await door.call(provider, attempt, packed, headers)).status_code == 415
    assert "gzip" in (await door.signed(provider, attempt, packed)).json()["detail"]
    assert "byte order mark" in (await door.signed(provider, attempt, b"\xef\xbb\xbf{}")).json()["detail"]
    for body in (b'{"request_id": "\\ud800", "id": "\\ud800"}', b'{"request_id": "a\\u0000", "id": [1]}', b"[]", b"7"):
        assert (await door.signed(provider, attempt, body, delivery=str(len(body)))).status_code == 204


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_new_key_is_believed_once_the_provider_has_published_it(
    database: LocalPostgres, door: Door, attempt: AttemptId, world_on: Any, tmp_path: Path, provider: str
) -> None:
    own = Signer()
    async with (
        serve_http(own.app(), "127.0.0.1", 0) as own.port,
        world_on(door.kafka, database.url, tmp_path, **own.settings()) as world,
    ):
        fresh = Door(world, own, door.kafka)
        assert (await fresh.signed(provider, attempt, b"{}")).status_code == 204
        own.keys.rotate()
        assert (await fresh.signed(provider, attempt, b"{}")).status_code == 204
        assert own.asked == 2
        for _ in range(5):
            refused = await fresh.call(provider, attempt, b"{}", Signer().headers(provider, b"{}"))
            assert refused.status_code == 401
        assert own.asked == 2  # For the next seconds nobody is asked again.


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_keys_the_provider_is_told_to_come_again(
    database: LocalPostgres, door: Door, attempt: AttemptId, world_on: Any, tmp_path: Path, provider: str, until: Any
) -> None:
    async with world_on(door.kafka, database.url, tmp_path, **door.signer.settings()) as world:
        fresh = Door(world, door.signer, door.kafka)
        door.signer.away = True
        try:
            answer = await fresh.signed(provider, attempt, b"{}")
        finally:
            door.signer.away = False
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:signing-keys-away")
        assert TOKEN not in answer.text

        async def taken() -> bool:
            return bool((await fresh.signed(provider, attempt, b"{}")).status_code == 204)

        await until(taken)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff{}", b'{"a": "\xed\xa0\x80"}', b"[" * 100_000, b"\x00"])
async def test_what_is_not_json_is_refused_though_it_is_signed(door: Door, attempt: AttemptId, body: bytes) -> None:
    answer = await door.signed("fal", attempt, body)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:segue:problem:malformed-json")
    assert await door.in_kafka(attempt) == []


async def test_the_largest_body_fits_into_kafka_and_a_larger_one_is_refused(door: Door, attempt: AttemptId) -> None:
    # Every character but the outer two is one that JSON has to escape.
    most = b'"' + b'\\"' * ((MAX_BODY_BYTES - 2) // 2) + b'"'
    assert len(most) == MAX_BODY_BYTES
    assert (await door.signed("fal", attempt, most)).status_code == 204
    (message,) = await door.in_kafka(attempt)
    assert message.body == most.decode()
    assert len(message.model_dump_json()) < MAX_MESSAGE_BYTES - 50_000
    answer = await door.signed("fal", attempt, most + b" ")
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:segue:problem:body-too-large")


async def test_three_megabytes_are_not_read_to_their_end(door: Door, attempt: AttemptId) -> None:
    async with serve_http(api(door.world.parts), "127.0.0.1", 0) as port:
        url = door.url("fal", attempt)
        with socket.create_connection(("127.0.0.1", port), timeout=patient(60)) as client:
            head = f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
            client.sendall(head.encode())
            answer = await asyncio.to_thread(client.recv, 4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert counted("fal", "body-too-large") >= 1


async def test_what_kafka_has_not_confirmed_comes_again(
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
        door = Door(world, signer, cluster.bootstrap_servers)
        assert (await door.signed("fal", attempt, b"{}")).status_code == 204
    try:
        began = time.monotonic()
        answer = await door.signed("fal", attempt, b"{}")
        assert time.monotonic() - began < patient(15), "fal waits no longer"
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:segue:problem:not-confirmed")
    finally:
        await context.__aexit__(None, None, None)


async def test_without_a_public_url_there_is_no_door(
    database: LocalPostgres, door: Door, attempt: AttemptId, world_on: Any, tmp_path: Path
) -> None:
    settings = door.signer.settings()
    del settings["SEGUE_PUBLIC_URL"]
    async with world_on(door.kafka, database.url, tmp_path, **settings) as world:
        answer = await Door(world, door.signer, door.kafka).signed("fal", attempt, b"{}")
    assert answer.status_code == 404


async def test_neither_logs_nor_traces_tell_the_address(
    door: Door, attempt: AttemptId, caplog: pytest.LogCaptureFixture
) -> None:
    door.world.spans.clear()
    assert (await door.signed("fal", attempt, b"{}")).status_code == 204
    assert (await door.call("fal", attempt, b"{}", {})).status_code == 401
    mac = door.url("fal", attempt).rpartition("/")[2]
    told = json.dumps([dict(span.attributes) for span in door.world.spans.get_finished_spans()], default=str)
    assert f"/api/callbacks/fal/{attempt}/***" in told
    assert mac not in told
    assert mac not in caplog.text
