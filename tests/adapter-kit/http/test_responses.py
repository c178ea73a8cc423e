"""The outcome of an HTTP exchange, the same for all providers."""

import json
from typing import Any

import httpx
import pytest

from adapter_kit.http.answer import Answer
from adapter_kit.http.responses import explain, no_answer, submit_outcome
from adapter_kit.http.retry_after import retry_after_s
from adapter_kit.http.sanitize import MAX_PAGE_CHARS, MAX_WORDS, sanitize
from adapter_kit.http.transport import Exchange, exchange
from adapter_kit.port.outcomes import Failure, NotSent, ProviderRef, Unclear
from contracts.failures import FailureKind

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"retry-after": "7"}, "resets in ~30s", 7.0),
        ({"retry-after": "1.5"}, "", 1.5),
        ({}, "Your rate limit resets in ~30s.", 30.0),
        ({"retry-after": "soon"}, "resets in 4s", 4.0),
        ({"retry-after": "Sun, 06 Nov 1994 12:01:30 GMT", "date": NOON}, "", 90.0),
        ({"retry-after": "Sun, 06 Nov 1994 11:00:00 GMT", "date": NOON}, "", 0.0),
        ({"retry-after": "Sun, 06 Nov 1994 12:01:30 GMT"}, "", None),
        ({"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT", "date": NOON}, "", None),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "9" * 400}, "", None),
        ({}, "", None),
        # In the text.
        ({}, "Request was throttled. Your rate limit resets in ~1m30s.", 90.0),
        ({}, "resets in 2 minutes", 120.0),
        ({}, "slow down, and come back in 2 minutes", 120.0),
        ({}, "Please retry after 90 seconds", 90.0),
        ({}, "try again in 1h", 3_600.0),
        ({}, "rate limit resets in 1 hour and 5 minutes", 3_900.0),
        ({}, "Please wait 500 ms", 0.5),
        ({}, "retry after 5", 5.0),
        ({}, "You can try again in about a minute", 60.0),
        ({}, "limited to 6 requests per minute with a burst of 1 requests. Your rate limit resets in ~10s.", 10.0),
        ({}, "600 requests in 1 minute are allowed", None),
        ({}, "again in 3 months", None),
        ({}, "retry later", None),
        # In a field of the body.
        ({}, {"detail": "Request was throttled.", "status": 429, "retry_after": 7}, 7.0),
        ({}, {"error": {"message": "busy", "retry_after_ms": 1_500}}, 1.5),
        ({}, {"retryAfter": "12"}, 12.0),
        ({}, {"error": [{"retry-after": "30s"}]}, 30.0),
        ({}, {"detail": [{"msg": "Try again in 1 min 20 s", "type": "rate_limit"}]}, 80.0),
        ({}, {"retry_after": True, "detail": "resets in 4s"}, 4.0),
        ({}, {"retry_after": -1}, None),
        ({}, {"retry_after": "soon"}, None),
        ({}, {"detail": "busy", "input": {"prompt": "resets in 9s"}}, None),
        # At most a day.
        ({"retry-after": "999999999"}, "", 86_400.0),
        ({}, "try again in 400 days", 86_400.0),
        ({}, {"retry_after": 1e8}, 86_400.0),
    ],
)
def test_the_retry_time_is_read_from_headers_and_body(
    headers: dict[str, str], body: Any, expected: float | None
) -> None:
    answer = Answer(429, headers, (body if isinstance(body, str) else json.dumps(body)).encode())
    assert retry_after_s(answer) == expected
    assert no_answer(Exchange(answer=answer)).retry_after_s == expected


def outcome(done: Exchange) -> Any:
    return submit_outcome(done, lambda _: ProviderRef("a", {}), lambda _: Failure(FailureKind.UNKNOWN, "x"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), NotSent),
        (httpx.ConnectTimeout("slow"), NotSent),
        (httpx.PoolTimeout("full"), NotSent),
        (httpx.ProxyError("403 Forbidden"), NotSent),
        (httpx.UnsupportedProtocol("ftp"), NotSent),
        (httpx.ReadTimeout("slow"), Unclear),
        (httpx.WriteTimeout("slow"), Unclear),
        (httpx.ReadError("reset"), Unclear),
        (httpx.WriteError("reset"), Unclear),
        (httpx.CloseError("odd"), Unclear),
        (httpx.RemoteProtocolError("gone"), Unclear),
        (httpx.LocalProtocolError("odd"), Unclear),
        (httpx.DecodingError("gzip"), Unclear),
        (TimeoutError(), Unclear),
        (KeyError("request_id"), Unclear),
    ],
    ids=repr,
)
def test_not_sent_only_where_no_byte_of_the_request_was_sent(error: Exception, expected: type) -> None:
    assert type(outcome(Exchange(handed_over=True, error=error))) is expected
    assert type(outcome(Exchange(handed_over=False, error=error))) is NotSent


INTERNAL_ERROR = {"title": "Internal server error", "detail": "An unexpected error occurred."}


@pytest.mark.parametrize(
    ("status", "body", "answered"),
    [
        (500, INTERNAL_ERROR | {"status": 500}, True),
        (503, INTERNAL_ERROR | {"status": 503}, True),
        (500, INTERNAL_ERROR | {"status": 502}, False),
        (500, INTERNAL_ERROR | {"status": "500"}, False),
        (500, INTERNAL_ERROR, False),
        (500, {"status": 500}, False),
        (500, {"detail": None, "status": 500}, False),
        (500, {"message": "Internal server error"}, False),
        (503, {"error": "service unavailable"}, False),
        (504, {"message": "Endpoint request timed out"}, False),
        (502, {"error": "bad gateway"}, False),
        *((status, INTERNAL_ERROR | {"status": status}, False) for status in (502, 504, 520, 522, 524, 527)),
        (500, "<html>nginx</html>", False),
        (500, "", False),
    ],
)
def test_only_an_error_of_the_api_itself_counts_as_answered(status: int, body: Any, answered: bool) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    unclear = outcome(Exchange(handed_over=True, answer=Answer(status, {}, text.encode())))
    assert isinstance(unclear, Unclear)
    assert unclear.answered is answered


async def test_an_exception_of_an_sdk_is_returned_and_not_raised() -> None:
    async def fail() -> None:
        raise RecursionError("deep")

    done = await exchange(fail(), 1)
    assert explain(done) == "RecursionError: deep"
    assert not done.handed_over


CLOUDFLARE = """<!DOCTYPE html><html lang="en"><head><title>api | 502: Bad gateway</title>
<style>body { margin: 0 }</style><script>alert("</div>")</script></head>
<body class="x"><h1>Bad gateway</h1>
<p>The web server&nbsp;reported a &lt;bad&gt; gateway.</p></body></html>"""


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("User is locked. <Reason>: 1 < 2", "User is locked. <Reason>: 1 < 2"),
        ('{"detail": "<b>no</b>"}', '{"detail": "<b>no</b>"}'),
        (CLOUDFLARE, "api | 502: Bad gateway Bad gateway The web server reported a <bad> gateway."),
        ("<html><head><title>502 Bad Gateway</title></head><hr>nginx", "502 Bad Gateway nginx"),
        ("<HTML><style>p {}", "a page without words"),
        ("<html></script></style>seen", "seen"),
        ("<html>Bad gateway<![x]>never read", "Bad gateway"),
        ("<html>" + "<script>" * 10_000, "a page without words"),
        ("<html>" + "a" * 2 * MAX_PAGE_CHARS, "a" * MAX_WORDS),
        ("nul\x00 and half \ud800", "nul and half ?"),
    ],
)
def test_a_providers_text_is_sanitized(body: str, shown: str) -> None:
    assert sanitize(body) == shown
    assert explain(Exchange(answer=Answer(502, {}, body.encode("utf-8", "replace")))) == f"HTTP 502: {shown[:500]}"
