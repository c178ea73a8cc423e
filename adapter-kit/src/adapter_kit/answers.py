"""What an exchange with a provider means, as far as that is the same for all of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx

from adapter_kit.outcomes import (
    Accepted,
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
from adapter_kit.wire import Answer, Exchange, words

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
_RESETS_IN: Final = re.compile(r"resets? in ~?\s*(\d{1,6})\s*s", re.IGNORECASE)
_SECONDS: Final = re.compile(r"\d{1,6}(\.\d{1,6})?")


def submit_outcome(
    done: Exchange, accepted: Callable[[Answer], ProviderRef | None], failure_of: Callable[[Answer], Failure]
) -> SubmitOutcome:
    """What came of a POST; what is not surely one of the others is unclear."""
    answer = done.answer
    if answer is None:
        reason = explain(done)
        return NotSent(reason) if not done.handed_over or isinstance(done.error, NEVER_SENT) else Unclear(reason)
    if answer.ok:
        ref = accepted(answer)
        return Accepted(ref) if ref else Unclear(f"HTTP {answer.status} that names no run: {words(answer.text)[:500]}")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(failure_of(answer), retry_after_s(answer))
    if 400 <= answer.status < 500 and answer.status not in _UNCLEAR_STATUSES:
        return Refused(failure_of(answer))
    return Unclear(explain(done))


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
        return f"HTTP {done.answer.status}: {words(done.answer.text)[:500]}"
    if isinstance(done.error, TimeoutError):
        return "no answer in time"
    return words(f"{type(done.error).__name__}: {done.error}") if done.error else "no request was sent"


def retry_after_s(answer: Answer) -> float | None:
    """Seconds to stay away for: by the header, in seconds or as a date, or else by the words "resets in ~30s"."""
    header = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(header):
        return float(header)
    until, now = _date(header), _date(answer.headers.get("date", ""))
    if until and now:
        return max(0.0, (until - now).total_seconds())
    found = _RESETS_IN.search(answer.text)
    return float(found[1]) if found else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else None
