"""Answers of a hundred megabytes, and in unusual codings: every provider's adapter reads the relevant fields."""

import gzip
import json
import zlib
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import brotli
import pytest

from adapter_kit.http.bounded_json import SIDE_BYTES
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    CancelPending,
    Found,
    NoAnswer,
    NotFound,
    Output,
    Produced,
    ProviderRef,
    Running,
    Stopped,
    Unclear,
)
from adapter_kit.port.provider import LostSubmission, Run
from contracts.ids import AttemptId

LINE = 'step 1/50: é "quoted" \\ \n'
LOGS = LINE * 100_000
URL = "https://files.example/out.mp3"
ATTEMPT = AttemptId("6f1c4a3e-0000-4000-8000-000000000001.1")


def prediction(**parts: Any) -> dict[str, Any]:
    """A prediction as Replicate sends it: the logs come before the status."""
    told = {"id": "abc", "model": "google/lyria-2", "version": "hidden", "input": {"prompt": "Warm ambient pad"}}
    rest = {"logs": LOGS, "output": URL, "data_removed": False, "error": None, "status": "succeeded"}
    return {**told, **rest, "created_at": datetime.now(UTC).isoformat(), "urls": {"get": "x", "cancel": "x"}, **parts}


def run(kind: Any) -> Run:
    return Run(ATTEMPT, kind.endpoint, "music", ProviderRef("abc", {}))


def answer(body: Any, *headers: str, status: int = 200) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    date = f"date: {format_datetime(datetime.now(UTC), usegmt=True)}"
    head = [f"HTTP/1.1 {status} X", date, f"content-length: {len(content)}", *headers, "", ""]
    return "\r\n".join(head).encode() + content


@pytest.mark.parametrize("kind", ["replicate"], indirect=True)
class TestReplicate:
    async def test_a_prediction_with_large_logs_is_read(self, kind: Any, raw: Any, opened: Any) -> None:
        async with raw(answer(prediction())) as server, opened(server.port) as provider:
            assert await provider.check(run(kind)) == Produced((Output(URL),))
            server.answer = answer(prediction(status="processing", output=None))
            assert await provider.check(run(kind)) == Running()
            server.answer = answer(prediction(status="failed", error="it fell over", logs=LOGS))
            broken = await provider.check(run(kind))
            assert isinstance(broken, Broken)
            assert broken.failure.message == "it fell over"

    async def test_a_hundred_megabytes_need_no_more_memory_than_ten(self, kind: Any, raw: Any, opened: Any) -> None:
        async with raw(answer(prediction(logs=LOGS * 40))) as server, opened(server.port) as provider:
            assert len(server.answer) > 100_000_000
            assert await provider.check(run(kind)) == Produced((Output(URL),))

    async def test_a_file_within_a_large_answer_is_an_output(self, kind: Any, raw: Any, opened: Any) -> None:
        url = "data:audio/mpeg;base64," + "SUQz" * 1_000_000
        async with raw(answer(prediction(output=url))) as server, opened(server.port) as provider:
            assert await provider.check(run(kind)) == Produced((Output(url),))

    async def test_a_submit_is_accepted_however_large_its_answer(self, kind: Any, raw: Any, opened: Any) -> None:
        for parts in ({}, {"logs": "", "metrics": [{"n": 1}] * 500_000}, {"input": {"prompt": LOGS}}):
            accepted = prediction(status="starting", output=None, **parts)
            async with raw(answer(accepted, status=201)) as server, opened(server.port, 30.0) as provider:
                outcome = await provider.submit(kind.submission())
            assert isinstance(outcome, Accepted)
            assert outcome.ref.request_id == "abc"
            assert server.posts == 1

    async def test_a_cancel_is_read(self, kind: Any, raw: Any, opened: Any) -> None:
        said = {"canceled": Stopped(may_have_cost=True), "succeeded": AlreadyOver(), "processing": CancelPending()}
        async with raw() as server, opened(server.port) as provider:
            for status, outcome in said.items():
                server.answer = answer(prediction(status=status))
                assert await provider.cancel(run(kind)) == outcome

    async def test_a_lost_run_is_found_among_large_ones(self, kind: Any, raw: Any, opened: Any, find: Any) -> None:
        lost = LostSubmission(ATTEMPT, kind.endpoint, kind.arguments, datetime.now(UTC))
        others = [prediction(id=f"other{n}", input={"prompt": "x"}, logs=LINE * 4_000) for n in range(60)]
        page = answer({"next": None, "results": [*others, prediction()]})
        async with raw(page) as server, opened(server.port) as provider:
            found = await find(provider, lost)
            assert isinstance(found, Found)
            assert found.ref.request_id == "abc"
            server.answer = answer({"next": None, "results": others})
            assert await find(provider, lost) == NotFound(conclusive=True)
            # A page with omitted runs proves nothing.
            crowd = [prediction(id=f"o{n}", input={"lyrics": "la " * 60_000}, logs="") for n in range(80)]
            server.answer = answer({"next": None, "results": crowd})
            assert isinstance(await find(provider, lost), NoAnswer)


@pytest.mark.parametrize("kind", ["fal"], indirect=True)
class TestFal:
    async def test_a_status_with_large_logs_and_a_large_result_are_read(self, kind: Any, raw: Any, opened: Any) -> None:
        lines = [{"message": LINE, "timestamp": "2026-01-01T00:00:00Z"}] * 50_000
        going = answer({"status": "IN_PROGRESS", "logs": lines}, status=202)
        async with raw(going) as server, opened(server.port) as provider:
            assert await provider.check(run(kind)) == Running()
            # The same answer to both requests, for the status and for the result.
            both = {"status": "COMPLETED", "logs": lines, "metrics": {}, "lyrics": LOGS, "audio": {"url": URL}}
            server.answer = answer(both)
            assert await provider.check(run(kind)) == Produced((Output(URL),))

    async def test_a_submit_is_accepted_however_large_its_answer(self, kind: Any, raw: Any, opened: Any) -> None:
        async with raw() as server, opened(server.port, 30.0) as provider:
            at = f"https://localhost:{server.port}/fal-ai/lyria2/requests/abc"
            urls = dict.fromkeys(("response_url", "status_url", "cancel_url"), at)
            server.answer = answer({"logs": LOGS, "padding": [1] * 1_000_000, "request_id": "abc", **urls})
            outcome = await provider.submit(kind.submission())
        assert isinstance(outcome, Accepted)
        assert outcome.ref == ProviderRef("abc", urls)
        assert server.posts == 1


def accepted(kind: Any, port: int) -> bytes:
    at = f"https://localhost:{port}/{kind.endpoint}/requests/abc"
    names = ("response_url", "status_url", "cancel_url")
    body = {"request_id": "abc", **dict.fromkeys(names, at)} if kind.name == "fal" else prediction(logs="")
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("identity, gzip", gzip.compress),
        # And wrong headers.
        ("gzip", bytes),
        ("br", bytes),
        ("deflate", bytes),
        ("zstd", bytes),
        ("aws-chunked", bytes),
        ("nonsense", bytes),
    ],
)
async def test_an_answer_is_read_whatever_its_content_encoding(
    kind: Any, raw: Any, opened: Any, coding: str, packed: Any
) -> None:
    async with raw() as server, opened(server.port) as provider:
        server.answer = answer(packed(accepted(kind, server.port)), f"content-encoding: {coding}")
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Accepted)
    assert outcome.ref.request_id == "abc"


async def test_an_answer_that_cannot_be_decoded_is_unclear(kind: Any, raw: Any, opened: Any) -> None:
    packed = gzip.compress(b'{"id": "abc", "request_id": "abc"}')[:-12]
    async with raw(answer(packed, "content-encoding: gzip")) as server, opened(server.port) as provider:
        assert isinstance(await provider.submit(kind.submission()), Unclear)


async def test_a_key_in_a_large_answer_is_masked_also_at_the_cut(kind: Any, raw: Any, opened: Any) -> None:
    async with raw() as server, opened(server.port) as provider:
        for before in range(1, 60, 11):
            echo = "x" * (SIDE_BYTES - before) + kind.key + " " + LINE * 20_000
            server.answer = answer({"detail": echo, "logs": echo, "title": echo}, status=422)
            assert len(server.answer) > 1_000_000
            outcome = await provider.submit(kind.submission())
            assert "xxx" in repr(outcome)
            assert kind.key[:12] not in repr(outcome)


async def test_a_decompression_bomb_is_decoded_up_to_a_limit_only(
    kind: Any, raw: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_kit.http.body.MOST_BYTES", 20_000_000)
    bomb = gzip.compress(b'{"logs": "' + b"x" * 100_000_000, compresslevel=1)
    async with raw(answer(bomb, "content-encoding: gzip")) as server, opened(server.port) as provider:
        assert isinstance(await provider.submit(kind.submission()), Unclear)


async def test_the_id_of_a_run_is_read_from_an_endless_answer(
    kind: Any, raw: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_kit.http.body.MOST_BYTES", 5_000_000)
    begun = b'{"request_id": "abc", "id": "abc", "logs": "' + b"x" * 5_000_000
    endless = answer(begun).replace(b"content-length: ", b"content-length: 9")
    async with raw(endless, trickle=b"x" * 100_000) as server, opened(server.port) as provider:
        outcome = await provider.submit(kind.submission())
    assert isinstance(outcome, Accepted)
    assert outcome.ref.request_id == "abc"
