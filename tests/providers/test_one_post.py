"""One submit is one POST, whatever the other end does, and its outcome is classified correctly."""

import asyncio
import socket
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import fal_client.client as fal_sdk
import pytest
from tests.patience import patient

from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    KeyAccepted,
    NoAnswer,
    NotFound,
    NotSent,
    ProviderRef,
    Refused,
    Throttled,
    Unclear,
)
from adapter_kit.port.provider import LostSubmission, Run
from contracts.failures import FAILURES, FailureKind
from contracts.ids import AttemptId
from replicate_adapter.provider import replicate_provider

NGINX = "<html><head><title>{0}</title></head><body><hr><center>nginx</center></body></html>"
DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, NGINX.format("502 Bad Gateway")),
        (503, NGINX.format("503 Service Temporarily Unavailable")),
        (504, NGINX.format("504 Gateway Time-out")),
        (500, {"detail": "Internal Server Error", "error_type": "internal_error"}),
        (503, {"detail": "no runner", "error_type": "runner_scheduling_failure"}),
        (520, "<html>cloudflare</html>"),
        (408, {"detail": "Request Timeout"}),
        (499, {"detail": "client closed"}),
        (302, ""),
        (200, '{"request_id": "abc'),
        (201, '{"id": "abc'),
        (200, {"status": "IN_QUEUE"}),
        (201, {"status": "starting", "id": "../../v1/account"}),
        (200, {"request_id": "a/../b"}),
        (200, []),
        (200, "null"),
        (200, DEEP),
        (204, ""),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_an_answer_without_a_clear_meaning_is_unclear(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, body: Any
) -> None:
    async with raw(http(status, body)) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert server.posts == len(server.requests) == 1
    assert outcome.reason.startswith(f"HTTP {status}")
    assert len(outcome.reason) <= 2000


async def test_no_answer_in_time_is_unclear(kind: Any, raw: Any, opened: Any) -> None:
    async with raw() as server, opened(server.port, submit_timeout_s=patient(0.5)) as provider:
        began = time.monotonic()
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert server.posts == 1
    assert patient(0.4) < time.monotonic() - began < patient(2.5)


async def test_a_truncated_answer_is_unclear(kind: Any, raw: Any, opened: Any) -> None:
    half = b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"request_id": "abc", "id": "abc"}'
    async with raw(half) as server, opened(server.port, submit_timeout_s=patient(0.5)) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert server.posts == 1


async def test_a_slow_answer_does_not_extend_a_submit_beyond_its_time(kind: Any, raw: Any, opened: Any) -> None:
    begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{"
    async with raw(begun, trickle=b" ") as server, opened(server.port, submit_timeout_s=patient(0.5)) as provider:
        began = time.monotonic()
        outcome = await provider.submit(kind.submission())
        assert time.monotonic() - began < patient(2.5)
    assert outcome == Unclear("no answer in time", word="timeout")
    assert server.posts == 1


async def test_a_connection_dropped_after_the_request_is_unclear(kind: Any, raw: Any, opened: Any) -> None:
    async with raw(drop=True) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert server.posts == 1


async def test_an_answer_that_is_no_http_is_unclear(kind: Any, raw: Any, opened: Any) -> None:
    async with raw(b"SSH-2.0-OpenSSH\r\n\r\n") as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert server.posts == 1


async def test_an_endless_page_is_cut_and_unclear(kind: Any, raw: Any, opened: Any) -> None:
    page = b"<html>" + b" " * 17 * 1024 * 1024
    begun = f"HTTP/1.1 200 OK\r\ncontent-length: {len(page)}\r\n\r\n".encode()
    async with raw(begun + page) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert "names no run" in outcome.reason
    assert server.posts == 1


async def test_throttled_has_the_retry_time(kind: Any, raw: Any, opened: Any, http: Any) -> None:
    reply = http(429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, retry_after="7")
    async with raw(reply) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after_s == 7
    assert outcome.failure.kind is FailureKind.RATE_LIMITED
    assert server.posts == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, FailureKind.UNKNOWN),
        (401, FailureKind.UNAUTHORIZED),
        (402, FailureKind.INSUFFICIENT_BALANCE),
        # 403 and 404 concern all callers only if the text is about a key or a model.
        (403, FailureKind.UNKNOWN),
        (404, FailureKind.UNKNOWN),
        (409, FailureKind.UNKNOWN),
        (422, FailureKind.INVALID_INPUT),
    ],
)
async def test_a_definite_error_is_a_refusal(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, expected: FailureKind
) -> None:
    async with raw(http(status, {"detail": "said so"})) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Refused)
    assert (outcome.failure.kind, outcome.failure.http_status) == (expected, status)
    assert "said so" in outcome.failure.message
    assert server.posts == 1


async def test_a_refused_connection_means_not_sent(kind: Any, raw: Any, opened: Any) -> None:
    async with raw() as server:
        pass
    async with opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, NotSent)
    assert "ConnectError" in outcome.reason
    assert server.requests == []


async def test_a_host_that_accepts_no_connection_means_not_sent(kind: Any, opened: Any) -> None:
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        began = time.monotonic()
        async with opened(full.getsockname()[1], submit_timeout_s=patient(2)) as provider:
            outcome = await provider.submit(kind.submission())
        assert time.monotonic() - began < patient(1.8)
    assert isinstance(outcome, NotSent)
    assert "ConnectTimeout" in outcome.reason


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
@pytest.mark.parametrize("drop", [False, True])
async def test_the_backup_domain_gets_the_one_post(
    kind: Any, raw: Any, opened: Any, http: Any, monkeypatch: pytest.MonkeyPatch, drop: bool
) -> None:
    monkeypatch.setattr(fal_sdk, "_BACKUP_DOMAINS", {"127.0.0.9": "127.0.0.1"})
    async with raw(drop=drop) as server:
        at = f"https://127.0.0.1:{server.port}/fal-ai/lyria2/requests/abc"
        names = ("response_url", "status_url", "cancel_url")
        server.answer = http(200, {"request_id": "abc"} | dict.fromkeys(names, at))
        provider = opened(server.port)
        monkeypatch.setattr(fal_sdk, "QUEUE_URL_FORMAT", f"https://127.0.0.9:{server.port}/")
        async with provider as opened_provider:
            outcome = await opened_provider.submit(kind.submission())
    assert isinstance(outcome, Unclear) if drop else outcome.ref.urls == dict.fromkeys(names, at)
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
async def test_an_untrusted_certificate_means_not_sent(
    raw: Any, opened: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw() as server:
        provider = opened(server.port)
        monkeypatch.delenv("SSL_CERT_FILE")
        async with provider as untrusting:
            outcome = await untrusting.submit(kind.submission())
    assert isinstance(outcome, NotSent)
    assert "certificate" in outcome.reason.lower()
    assert server.requests == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"endpoint": "../../v1/account"}, FailureKind.MODEL_NOT_FOUND),
        ({"endpoint": "owner/name?x=1"}, FailureKind.MODEL_NOT_FOUND),
        ({"endpoint": "alone"}, FailureKind.MODEL_NOT_FOUND),
        ({"arguments": {"prompt": float("nan")}}, FailureKind.INVALID_INPUT),
        ({"arguments": {"prompt": "\ud800"}}, FailureKind.INVALID_INPUT),
    ],
    ids=str,
)
async def test_an_invalid_submit_is_refused_unsent(
    kind: Any, raw: Any, opened: Any, http: Any, changes: dict[str, Any], expected: FailureKind
) -> None:
    async with raw(http(200, {})) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission(**changes))
    assert isinstance(outcome, Refused)
    assert outcome.failure.kind is expected
    assert server.requests == []


async def test_a_key_repeated_in_an_answer_is_masked(kind: Any, raw: Any, opened: Any, http: Any) -> None:
    body = {"detail": f"no access for {kind.key}, that is {kind.key.rpartition(':')[2]}\x00"}
    async with raw(http(403, body)) as server, opened(server.port) as provider:
        refused = await provider.submit(kind.submission())
        server.answer = http(500, body)
        unclear = await provider.submit(kind.submission())
    assert "no access for ***" in refused.failure.message
    for said in (refused.failure.message, unclear.reason):
        assert kind.key.rpartition(":")[2] not in said
        assert "\x00" not in said


@pytest.mark.parametrize("bad", ["", "two words", "line\nbreak", "schlüssel"])
async def test_an_invalid_key_is_refused_and_not_quoted(opened: Any, bad: str) -> None:
    with pytest.raises(ValueError, match="the key") as error:
        async with opened(1, key=bad):
            pass
    assert not bad or bad not in str(error.value)


async def test_submits_in_quick_succession_share_a_connection(
    kind: Any, raw: Any, opened: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_kit.http.network.KEEP_S", patient(60))
    async with raw(http(422, {"detail": "no"})) as server, opened(server.port) as provider:
        for _ in range(3):
            await provider.submit(kind.submission())
    assert [request.connection for request in server.requests] == [1, 1, 1]


async def test_a_server_that_closes_the_shared_connection_gets_each_submit_once(
    kind: Any, raw: Any, opened: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_kit.http.network.KEEP_S", patient(60))
    async with raw(http(422, {"detail": "no"})) as server, opened(server.port) as provider:
        await provider.submit(kind.submission())
        server.drop = True
        unclear = await provider.submit(kind.submission())
    assert isinstance(unclear, Unclear)
    assert [request.connection for request in server.requests] == [1, 1]


async def test_hundreds_of_submits_at_a_time(
    kind: Any, raw: Any, opened: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process does both ends of two hundred handshakes, which takes seconds on a busy machine.
    monkeypatch.setattr("adapter_kit.http.transport.CONNECT_TIMEOUT_S", patient(60))
    async with (
        raw(http(422, {"detail": "no"})) as server,
        opened(server.port, submit_timeout_s=patient(240)) as provider,
    ):
        outcomes = await asyncio.gather(*(provider.submit(kind.submission()) for _ in range(200)))
    assert {type(outcome) for outcome in outcomes} == {Refused}
    assert server.posts == 200


def run(kind: Any, **urls: str) -> Run:
    return Run(AttemptId("6f1c4a3e-0000-4000-8000-000000000001.1"), kind.endpoint, "music", ProviderRef("abc123", urls))


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_a_read_request_is_sent_once_and_not_retried(
    kind: Any, raw: Any, opened: Any, http: Any, find: Any, status: int
) -> None:
    async with raw(http(status, NGINX.format("later"), retry_after="3600")) as server, opened(server.port) as provider:
        began = time.monotonic()
        answers = [
            await provider.check(run(kind)),
            await provider.cancel(run(kind)),
            await provider.probe(kind.endpoint),
            await find(provider, LostSubmission(run(kind).attempt_id, kind.endpoint, {}, datetime.now(UTC))),
        ]
    assert time.monotonic() - began < patient(2)
    assert {type(each) for each in answers} == {NoAnswer}
    assert {each.retry_after_s for each in answers} == {3600}
    assert len(server.requests) == 4


async def test_answers_of_any_shape_raise_nothing(kind: Any, raw: Any, opened: Any, http: Any, find: Any) -> None:
    lost = LostSubmission(run(kind).attempt_id, kind.endpoint, {}, datetime.now(UTC))
    async with raw() as server, opened(server.port) as provider:
        for body in ("", "null", "[]", '"text"', "{", DEEP, '{"status": 7}', '{"status": "LIMBO"}', '{"items": 1}'):
            server.answer = http(200, body)
            assert isinstance(await provider.check(run(kind)), NoAnswer), body
            assert type(await provider.cancel(run(kind))).__name__ == "CancelPending", body
            assert isinstance(await find(provider, lost), NoAnswer), body
            assert isinstance(await provider.probe(kind.endpoint), KeyAccepted), body


@pytest.mark.parametrize("odd", [None, 1, [], {}, {"request_id": 1, "id": 2}, {"json_input": {}, "input": {}}], ids=str)
async def test_a_listing_with_an_entry_that_cannot_be_read_proves_nothing(
    kind: Any, raw: Any, opened: Any, http: Any, find: Any, odd: Any
) -> None:
    lost = LostSubmission(run(kind).attempt_id, kind.endpoint, {}, datetime.now(UTC))
    listing = http(200, {"items": [odd], "results": [odd], "next": None})
    async with raw(listing) as server, opened(server.port) as provider:
        assert await find(provider, lost) == NoAnswer("an entry of the list cannot be read")
        server.answer = http(200, {"items": [], "results": [], "next": None})
        assert await find(provider, lost) == NotFound(conclusive=kind.name == "replicate")


@pytest.mark.parametrize("payload", [{}, {"json_input": None, "input": None}], ids=["absent", "null"])
async def test_a_listed_run_without_its_input_may_be_the_lost_one(
    kind: Any, raw: Any, opened: Any, http: Any, find: Any, payload: Any
) -> None:
    now = datetime.now(UTC)
    times = {"sent_at": now.isoformat(), "created_at": now.isoformat()}
    listed = {"request_id": "one", "id": "one", "model": kind.endpoint, **times, **payload}
    old = {"sent_at": (now - timedelta(hours=1)).isoformat(), "created_at": (now - timedelta(hours=1)).isoformat()}
    lost = LostSubmission(run(kind).attempt_id, kind.endpoint, {"prompt": "x"}, now)
    absent = NotFound(conclusive=kind.name == "replicate")
    listing = http(200, {"items": [listed], "results": [listed], "next": None})
    async with raw(listing) as server, opened(server.port) as provider:
        assert isinstance(await find(provider, lost), NoAnswer)
        assert await find(provider, lost, frozenset({"one"})) == absent
        server.answer = http(200, {"items": [listed | old], "results": [listed | old], "next": None})
        assert await find(provider, lost) == absent


async def test_an_endless_listing_proves_nothing(kind: Any, raw: Any, opened: Any, http: Any, find: Any) -> None:
    lost = LostSubmission(run(kind).attempt_id, kind.endpoint, {}, datetime.now(UTC))
    more = {"next": "https://api.replicate.com/v1/predictions/?cursor=2", "has_more": True, "next_cursor": "2"}
    async with raw(http(200, {"items": [], "results": [], **more})) as server, opened(server.port) as provider:
        assert await find(provider, lost) == NoAnswer("the listing is longer than 50 pages")
    assert ["cursor=2" in request.target for request in server.requests] == [False] + [True] * 49


@pytest.mark.parametrize("kind", ["replicate"], indirect=True)
async def test_a_listing_is_followed_through_a_proxy_with_a_prefix(kind: Any, raw: Any, http: Any, find: Any) -> None:
    lost = LostSubmission(run(kind).attempt_id, kind.endpoint, {}, datetime.now(UTC))
    more = {"results": [], "next": "http://proxy/replicate/v1/predictions?cursor=2"}
    async with (
        raw(http(200, more)) as server,
        replicate_provider(kind.key, base_url=f"http://127.0.0.1:{server.port}/replicate") as provider,
    ):
        await find(provider, lost)
    assert {request.target for request in server.requests[1:]} == {"/replicate/v1/predictions?cursor=2"}


async def test_the_request_of_a_submit(kind: Any, raw: Any, opened: Any, http: Any) -> None:
    hook = "https://segue.example/api/callbacks/x/y/z"
    async with raw(http(422, {})) as server, opened(server.port) as provider:
        await provider.submit(kind.submission(webhook_url=hook))
        await provider.check(run(kind))
    submit, check = server.requests
    if kind.name == "fal":
        assert submit.target == "/fal-ai/lyria2?fal_webhook=https%3A%2F%2Fsegue.example%2Fapi%2Fcallbacks%2Fx%2Fy%2Fz"
        assert submit.headers["authorization"] == f"Key {kind.key}"
        assert submit.headers["x-fal-request-timeout"] == "30.0"
        assert submit.headers["x-fal-tags"] == "segue-attempt=6f1c4a3e-0000-4000-8000-000000000001.1"
        assert submit.headers["x-app-fal-disable-fallback"] == "true"
        assert "x-fal-store-io" not in submit.headers
    else:
        assert submit.target == "/v1/models/google/lyria-2/predictions"
        assert submit.headers["authorization"] == f"Bearer {kind.key}"
        assert submit.headers["cancel-after"] == "90s"
        assert b'"webhook":"https://segue.example/api/callbacks/x/y/z"' in submit.body
        assert b'"webhook_events_filter":["start","completed"]' in submit.body
        assert "cancel-after" not in check.headers


@pytest.mark.parametrize("kind", ["replicate"], indirect=True)
async def test_a_community_model_is_submitted_by_its_version(kind: Any, raw: Any, opened: Any, http: Any) -> None:
    async with raw(http(201, {"id": "abc", "status": "starting"})) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission(endpoint="meta/musicgen:" + "a" * 64))
    assert isinstance(outcome, Accepted)
    assert server.requests[0].target == "/v1/predictions"
    assert b'"version":"' + b"a" * 64 in server.requests[0].body


async def test_the_key_never_goes_to_a_host_that_an_answer_names(
    kind: Any, raw: Any, opened: Any, http: Any, find: Any
) -> None:
    async with raw(http(200, {})) as foreign, raw() as server, opened(server.port) as provider:
        names = ("response_url", "status_url", "cancel_url")
        elsewhere = dict.fromkeys(names, f"https://localhost:{foreign.port}/x") | {
            "get": f"http://127.0.0.1:{foreign.port}/x",
            "cancel": f"http://127.0.0.1:{foreign.port}/x",
        }
        server.answer = http(200, {"id": "abc", "request_id": "abc", "urls": elsewhere, **elsewhere})
        accepted = await provider.submit(kind.submission())
        assert isinstance(accepted, Accepted)
        for ref in (accepted.ref, replace(accepted.ref, urls=elsewhere)):
            await provider.check(replace(run(kind), ref=ref))
            await provider.cancel(replace(run(kind), ref=ref))
        next_page = f"http://127.0.0.1:{foreign.port}/v1/predictions?cursor=1"
        server.answer = http(200, {"results": [], "items": [], "next": next_page})
        await find(provider, LostSubmission(run(kind).attempt_id, kind.endpoint, {}, datetime.now(UTC)))
    assert foreign.connections == 0
    assert len(server.requests) >= 6


async def test_redirects_are_not_followed(kind: Any, raw: Any, opened: Any, http: Any) -> None:
    async with raw(http(200, {})) as foreign:
        elsewhere = f"{'https' if kind.name == 'fal' else 'http'}://localhost:{foreign.port}/x"
        async with raw(http(307, "", location=elsewhere)) as server, opened(server.port) as provider:
            refused = await provider.submit(kind.submission())
            assert isinstance(refused, Refused)
            assert refused.failure.kind is FailureKind.UNREACHABLE
            assert isinstance(await provider.check(run(kind)), NoAnswer)
    assert foreign.connections == 0


@pytest.mark.parametrize(
    ("status", "location", "proof"),
    [
        # The same request must go elsewhere: it was not processed here.
        (307, "https://elsewhere.example/x", True),
        (308, "https://elsewhere.example/x", True),
        (308, "/x", True),
        (301, "https://elsewhere.example{path}", True),
        (301, "https://elsewhere.example/proxy{path}/?again=1", True),
        (302, "{path}/", True),
        # The answer to an accepted POST may look the same.
        (303, "{path}", False),
        (302, "https://elsewhere.example/requests/abc", False),
        (301, "https://elsewhere.example/login", False),
        (302, "", False),
        (307, "", False),
        (300, "{path}", False),
        (304, "{path}", False),
    ],
)
async def test_a_redirect_is_a_definite_answer_where_its_meaning_is(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, location: str, proof: bool
) -> None:
    path = "/fal-ai/lyria2" if kind.name == "fal" else "/v1/models/google/lyria-2/predictions"
    named = {"location": location.format(path=path)} if location else {}
    async with raw(http(status, "", **named)) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission(webhook_url="https://segue.example/secret"))
    assert isinstance(outcome, Refused) is proof
    assert server.posts == len(server.requests) == 1
    if isinstance(outcome, Refused):
        assert outcome.failure.http_status == status
        assert "nothing was accepted" in outcome.failure.message
    else:
        assert isinstance(outcome, Unclear)


def own(status: int, error_type: str, http: Any, **headers: str) -> bytes:
    """The answer to a failed submit in fal's own format of body and headers."""
    answer: bytes = http(status, {"detail": "words", "error_type": error_type}, x_fal_error_type=error_type, **headers)
    return answer


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (503, "runner_scheduling_failure", FailureKind.PROVIDER_ERROR),
        (503, "runner_connection_refused", FailureKind.PROVIDER_ERROR),
        (500, "runner_server_error", FailureKind.PROVIDER_ERROR),
    ],
)
async def test_a_failed_submit_that_left_no_run_is_a_definite_error(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, error_type: str, expected: FailureKind
) -> None:
    async with raw(own(status, error_type, http)) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Refused)
    assert (outcome.failure.kind, outcome.failure.code) == (expected, error_type)
    assert server.posts == len(server.requests) == 1


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (500, "internal_error"),
        (503, "runner_disconnected"),
        (504, "startup_timeout"),
        (502, "runner_incomplete_response"),
    ],
)
async def test_a_failed_submit_that_may_have_left_a_run_is_unclear(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, error_type: str
) -> None:
    async with raw(own(status, error_type, http)) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Unclear)
    assert outcome.answered


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
@pytest.mark.parametrize("error_type", ["internal_error", "runner_scheduling_failure"])
@pytest.mark.parametrize(
    ("status", "known"),
    [
        ({"status": "IN_QUEUE", "queue_position": 0}, True),
        ({"status": "IN_PROGRESS", "logs": []}, True),
        ({"status": "COMPLETED", "logs": []}, True),
        (404, False),
        (500, False),
    ],
    ids=str,
)
async def test_a_failed_submit_whose_id_fal_has_a_run_for_was_accepted(
    kind: Any, raw: Any, opened: Any, http: Any, error_type: str, status: Any, known: bool
) -> None:
    failed = own(503, error_type, http, x_fal_request_id="abc-1")
    look = http(status, {"status": "NOT_FOUND"}) if isinstance(status, int) else http(200, status)
    async with raw(failed, then=look) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Accepted) is known
    if known:
        assert outcome.ref.request_id == "abc-1"
        assert outcome.ref.urls["status_url"].endswith("/fal-ai/lyria2/requests/abc-1/status")
    else:
        assert isinstance(outcome, Unclear if error_type == "internal_error" else Refused)
    assert server.posts == 1
    assert [request.target for request in server.requests[1:]] == ["/fal-ai/lyria2/requests/abc-1/status?logs=false"]


async def test_an_answer_of_the_provider_is_distinguished_from_one_of_a_proxy(
    kind: Any, raw: Any, opened: Any, http: Any
) -> None:
    own_error = http(500, {"title": "Internal server error", "detail": "An unexpected error occurred.", "status": 500})
    async with raw(own_error) as server, opened(server.port) as provider:
        answered = await provider.submit(kind.submission())
        server.answer = http(502, NGINX.format("502 Bad Gateway"))
        proxied = await provider.submit(kind.submission())
    assert [type(each) for each in (answered, proxied)] == [Unclear, Unclear]
    assert (answered.answered, proxied.answered) == (True, False)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"detail": "Your request was blocked by our moderation system."}, FailureKind.CONTENT_POLICY),
        (422, {"detail": {"status": "bad_prompt", "message": "names an artist"}}, FailureKind.CONTENT_POLICY),
        (500, {"detail": "Internal server error: content policy violation"}, FailureKind.CONTENT_POLICY),
        (200, {"error": "NSFW content detected in all outputs"}, FailureKind.CONTENT_POLICY),
        (400, {"detail": "lyrics must be at most 600 characters"}, FailureKind.INVALID_INPUT),
    ],
)
async def test_a_callers_mistake_in_the_error_text_ends_the_job_at_the_first_provider(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, body: Any, expected: FailureKind
) -> None:
    async with raw(http(status, body)) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Refused)
    assert outcome.failure.kind is expected
    assert not FAILURES[expected].moves_on


async def test_a_prompt_repeated_in_an_error_is_ignored(kind: Any, raw: Any, opened: Any, http: Any) -> None:
    prompt = "a song in which a censor cries: NSFW content detected, webhook: is invalid"
    async with raw(http(400, {"detail": f"cannot parse {prompt!r}"})) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission(arguments={"prompt": prompt}))
        server.answer = http(200, {"status": "failed", "error": f"could not sing {prompt!r}"})
        ended = await provider.check(replace(run(kind), arguments={"prompt": prompt}))
    assert isinstance(outcome, Refused)
    assert outcome.failure.kind is FailureKind.UNKNOWN
    if kind.name == "replicate":
        assert ended.failure.kind is FailureKind.MODEL_ERROR


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            422,
            {"title": "Input validation failed", "detail": "- webhook: Does not match format 'uri'\n", "status": 422},
        ),
        (422, {"detail": [{"loc": ["query", "fal_webhook"], "msg": "invalid or missing URL scheme", "type": "url"}]}),
        (400, {"detail": "Invalid webhook URL", "error_type": "bad_request"}),
    ],
)
async def test_an_error_about_our_callback_address_is_distinguished_from_the_callers_mistakes(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, body: Any
) -> None:
    async with raw(http(status, body)) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission(webhook_url="https://segue.example/callbacks/x"))
        await provider.submit(kind.submission())
    assert isinstance(outcome, CallbackRefused)
    assert outcome.failure.kind is FailureKind.CALLBACK_REFUSED
    with_one, without = (request.target + request.body.decode() for request in server.requests)
    assert "webhook" in with_one
    assert "webhook" not in without


@pytest.mark.parametrize(
    ("status", "server_named", "expected"),
    [
        (521, "cloudflare", NotSent),
        (523, "cloudflare", NotSent),
        (525, "Cloudflare", NotSent),
        (526, "cloudflare", NotSent),
        # The origin may have received the request.
        (520, "cloudflare", Unclear),
        (522, "cloudflare", Unclear),
        (524, "cloudflare", Unclear),
        (502, "cloudflare", Unclear),
        # The origin of the status is unknown.
        (521, "nginx", Unclear),
    ],
)
async def test_a_proxy_without_a_connection_to_the_origin_means_not_sent(
    kind: Any, raw: Any, opened: Any, http: Any, status: int, server_named: str, expected: type
) -> None:
    page = http(status, "<!DOCTYPE html><html><body>Web server is down</body></html>", server=server_named)
    async with raw(page) as server, opened(server.port) as provider:
        assert isinstance(await provider.submit(kind.submission()), expected)
    assert server.posts == len(server.requests) == 1
