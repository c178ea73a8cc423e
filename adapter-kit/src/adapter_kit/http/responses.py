"""Maps an HTTP exchange with a provider to the outcome of a call, where that is the same for all providers. Pure."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpx

from adapter_kit.http.answer import Answer
from adapter_kit.http.causes import error_word, status_word
from adapter_kit.http.retry_after import retry_after_s
from adapter_kit.http.sanitize import sanitize
from adapter_kit.http.transport import Exchange
from adapter_kit.port.outcomes import (
    Accepted,
    CallbackRefused,
    ErrorWord,
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
"""Errors raised before a connection is established: name resolution, routing, TLS, a full pool."""

# Proxies also return 408 and 499 for a request that may have reached the provider.
_UNCLEAR_STATUSES: Final = frozenset({408, 499})
_NO_ORIGIN: Final = frozenset({521, 523, 525, 526})
"""Cloudflare's statuses for an origin to which it got no connection: refused, no route, or no TLS.

After 520, 522 and 524 the request may have arrived. Source:
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""
_SAME_REQUEST_ELSEWHERE: Final = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
_ELSEWHERE: Final = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND})


def _never(_: Answer) -> bool:
    return False


def _is_problem(answer: Answer) -> bool:
    """Whether a 5xx comes from the API itself: it holds problem details with the status of the response.

    502, 504 and 520 to 529 come from a proxy in any format, and the request may still be running.
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
    """The outcome of a POST to `path`; Unclear unless another outcome is certain.

    `accepted` returns the run's reference from a 2xx, or None; `failure_of` returns the failure of any other response.
    `is_final` returns whether, by the provider's documentation, a 5xx proves that there is and will be no run. `is_own`
    returns whether a 5xx is in a format of the provider's own, besides problem details.
    """
    answer = done.answer
    if answer is None:
        reason, word = explain(done), exchange_word(done)
        unsent = not done.handed_over or isinstance(done.error, NEVER_SENT)
        return NotSent(reason, word=word) if unsent else Unclear(reason, word=word)
    if answer.ok:
        ref = accepted(answer)
        return Accepted(ref) if ref is not None else _without_run(answer, failure_of(answer))
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(failure_of(answer), retry_after_s(answer))
    if (moved := _moved(answer, path)) is not None:
        return Refused(moved)
    if 400 <= answer.status < 500 and answer.status not in _UNCLEAR_STATUSES:
        return _refused(failure_of(answer))
    if _is_no_origin(answer):
        return NotSent(explain(done), word=exchange_word(done))
    if answer.status >= 500:
        failure = failure_of(answer)
        if FAILURES[failure.kind].callers_fault or is_final(answer):
            # A caller's mistake ends the job, so no second run can be paid for.
            return Refused(failure)
        answered = _is_problem(answer) or is_own(answer)
        return Unclear(explain(done), answered=answered, word=exchange_word(done))
    return Unclear(explain(done), word=exchange_word(done))


def _without_run(answer: Answer, failure: Failure) -> SubmitOutcome:
    """The outcome of a 2xx without a run's id. A caller's mistake ends the job, so no second run can be paid for."""
    if FAILURES[failure.kind].callers_fault:
        return Refused(failure)
    return Unclear(f"HTTP {answer.status} that names no run: {sanitize(answer.text)[:500]}", word="unreadable")


def _refused(failure: Failure) -> SubmitOutcome:
    return CallbackRefused(failure) if failure.kind is FailureKind.CALLBACK_REFUSED else Refused(failure)


def _is_no_origin(answer: Answer) -> bool:
    """Whether Cloudflare reports that it got no connection to the provider, so the request was not delivered."""
    return answer.status in _NO_ORIGIN and "cloudflare" in answer.headers.get("server", "").lower()


def _moved(answer: Answer, path: str) -> Failure | None:
    """The failure for a redirect that proves that nothing was accepted; None for any other response.

    Redirects of a POST are not followed. 307 and 308 request the same POST at another URL, as do 301 and 302 to the
    same path (https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx). 303, and 302 to another path, may also
    follow a POST that was accepted.
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


_NOT_ABOUT_RUN: Final = frozenset({401, 402, 403, 407, 408, 421, 425, 429, 499})
"""Statuses about the key, a proxy or a temporary condition, and not about the run in question."""


def is_definite(answer: Answer) -> bool:
    """Whether it is a 4xx about the run, so that the same request will be refused again."""
    return 400 <= answer.status < 500 and answer.status not in _NOT_ABOUT_RUN


def no_answer(done: Exchange) -> NoAnswer:
    """The outcome of a failed query: the reason, and the number of seconds to wait if the response contains one."""
    wait_s = retry_after_s(done.answer) if done.answer else None
    return NoAnswer(explain(done), wait_s, word=exchange_word(done))


def probe_outcome(done: Exchange, failure_of: Callable[[Answer], Failure]) -> ProbeOutcome:
    """What the response to a free query shows about the key. A 404 means that the key was accepted."""
    answer = done.answer
    if answer is None:
        return no_answer(done)
    if answer.ok or answer.status == HTTPStatus.NOT_FOUND:
        return KeyAccepted()
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN):
        return KeyRefused(failure_of(answer))
    return no_answer(done)


def exchange_word(done: Exchange) -> ErrorWord:
    """Why an exchange failed, in one word; `unreadable` if its answer was a success that could not be used."""
    if done.answer is not None:
        return "unreadable" if done.answer.ok else status_word(done.answer.status)
    return "no_answer" if done.error is None else error_word(done.error)


def explain(done: Exchange) -> str:
    """One line on the result of an exchange, for display."""
    if done.answer is not None:
        return f"HTTP {done.answer.status}: {sanitize(done.answer.text)[:500]}"
    if isinstance(done.error, TimeoutError):
        return "no answer in time"
    return sanitize(f"{type(done.error).__name__}: {done.error}") if done.error else "no request was sent"
