"""What an exchange with a provider means, as far as that is the same for all of them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpx

from adapter_kit.http.answer import Answer
from adapter_kit.http.retry_after import retry_after_s
from adapter_kit.http.sanitize import sanitize
from adapter_kit.http.transport import Exchange
from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    Failure,
    KeyAccepted,
    KeyRefused,
    NoAnswer,
    NotSent,
    ProbeOutcome,
    ProviderRef,
    Refused,
    SubmitOutcome,
    Throttled,
    Unclear,
)
from contracts.failures import FAILURES, FailureKind

NEVER_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Errors of the time before a connection stands: no name, no route, no TLS, no place in the pool."""

# 408 and 499 are also what proxies say of a request whose fate they do not know.
_UNCLEAR_STATUSES: Final = frozenset({408, 499})
_NO_ORIGIN: Final = frozenset({521, 523, 525, 526})
"""Cloudflare's statuses for an origin that refuses the connection, has no route, or no TLS; not so 520, 522 and 524.

Source: https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""
_SAME_REQUEST_ELSEWHERE: Final = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
_ELSEWHERE: Final = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND})


def _never(_: Answer) -> bool:
    return False


def _is_problem(answer: Answer) -> bool:
    """Whether a 5xx is the API's own word, in problem details whose `status` is that of the answer.

    With 502, 504 and 520 to 529 a proxy speaks of a request that may still be under way, whatever form it has.
    """
    document = answer.document()
    own = isinstance(document.get("detail"), str) and document.get("status") == answer.status
    return own and answer.status not in (502, 504) and not 520 <= answer.status <= 529


def submit_outcome(
    done: Exchange,
    accepted: Callable[[Answer], ProviderRef | None],
    failure_of: Callable[[Answer], Failure],
    *,
    path: str = "",
    is_final: Callable[[Answer], bool] = _never,
    is_own: Callable[[Answer], bool] = _never,
) -> SubmitOutcome:
    """What came of a POST to `path`; what is not surely one of the others is unclear.

    `is_final` says of a 5xx whether by the provider's documents no run has come of the request, nor will; `is_own`,
    whether it is in a form of the provider's own, beside that of problem details.
    """
    answer = done.answer
    if answer is None:
        reason = explain(done)
        return NotSent(reason) if not done.handed_over or isinstance(done.error, NEVER_SENT) else Unclear(reason)
    if answer.ok:
        ref = accepted(answer)
        return Accepted(ref) if ref is not None else _nameless(answer, failure_of(answer))
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(failure_of(answer), retry_after_s(answer))
    if (moved := _moved(answer, path)) is not None:
        return Refused(moved)
    if 400 <= answer.status < 500 and answer.status not in _UNCLEAR_STATUSES:
        return _refused(failure_of(answer))
    if _is_of_a_proxy_without_origin(answer):
        return NotSent(explain(done))
    if answer.status >= 500:
        failure = failure_of(answer)
        if FAILURES[failure.kind].callers_fault or is_final(answer):
            # With a caller's mistake the job ends, so that no second run is paid for.
            return Refused(failure)
        return Unclear(explain(done), answered=_is_problem(answer) or is_own(answer))
    return Unclear(explain(done))


def _nameless(answer: Answer, failure: Failure) -> SubmitOutcome:
    """A 2xx without a run: a caller's mistake ends the job, so that no second run is paid for."""
    if FAILURES[failure.kind].callers_fault:
        return Refused(failure)
    return Unclear(f"HTTP {answer.status} that names no run: {sanitize(answer.text)[:500]}")


def _refused(failure: Failure) -> SubmitOutcome:
    return CallbackRefused(failure) if failure.kind is FailureKind.CALLBACK_REFUSED else Refused(failure)


def _is_of_a_proxy_without_origin(answer: Answer) -> bool:
    """Whether Cloudflare says that it got no connection to the provider, so that nothing was handed over."""
    return answer.status in _NO_ORIGIN and "cloudflare" in answer.headers.get("server", "").lower()


def _moved(answer: Answer, path: str) -> Failure | None:
    """The failure of a redirect that proves that nothing was accepted; redirects of a POST are not followed.

    307 and 308 ask for the same request at another place, as do 301 and 302 where they name the same path there
    (https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx). 303, and 302 to another path, are also what follows
    upon a POST that was taken.
    """
    location = answer.headers.get("location", "")
    same_request = answer.status in _SAME_REQUEST_ELSEWHERE and bool(location)
    if not same_request and not (answer.status in _ELSEWHERE and _is_same_path(location, path)):
        return None
    to = sanitize(location.partition("?")[0])[:300]
    message = f"HTTP {answer.status}: it has moved to {to}; a paid request is not sent on, and nothing was accepted"
    return Failure(FailureKind.UNREACHABLE, message, http_status=answer.status)


def _is_same_path(location: str, path: str) -> bool:
    try:
        there = urlsplit(location).path
    except ValueError:
        return False
    return bool(path.strip("/")) and f"/{there.strip('/')}".endswith(f"/{path.strip('/')}")


_ABOUT_THE_ASKER: Final = frozenset({401, 402, 403, 407, 408, 421, 425, 429, 499})
"""Statuses of the key, a proxy or the moment: they say nothing about the run that was asked for."""


def is_definite(answer: Answer) -> bool:
    """Whether it is a 4xx that speaks of the run, so that the same request will be refused again."""
    return 400 <= answer.status < 500 and answer.status not in _ABOUT_THE_ASKER


def no_answer(done: Exchange) -> NoAnswer:
    """The question failed: why, and when to ask again."""
    return NoAnswer(explain(done), retry_after_s(done.answer) if done.answer else None)


def probe_outcome(done: Exchange, failure_of: Callable[[Answer], Failure]) -> ProbeOutcome:
    """What the answer to a free question says of the key; not to know the thing asked about is an answer, too."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.ok or answer.status == HTTPStatus.NOT_FOUND:
        return KeyAccepted()
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN):
        return KeyRefused(failure_of(answer))
    return no_answer(done)


def explain(done: Exchange) -> str:
    """One line on how an exchange went, for people."""
    if done.answer is not None:
        return f"HTTP {done.answer.status}: {sanitize(done.answer.text)[:500]}"
    if isinstance(done.error, TimeoutError):
        return "no answer in time"
    return sanitize(f"{type(done.error).__name__}: {done.error}") if done.error else "no request was sent"
