"""The errors within an exception group, and the word for an error of the network."""

from __future__ import annotations

import httpx

from adapter_kit.port.outcomes import ErrorWord


def first_cause(error: BaseException) -> BaseException:
    """The first error in nested exception groups; `error` itself if it is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def causes(error: BaseException) -> list[BaseException]:
    """All errors in nested exception groups; only `error` if it is not a group."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in causes(inner)]
    return [error]


def forget_frames(error: BaseException) -> None:
    """Remove the tracebacks of an error that is kept, and of those before it: their frames hold whole bodies."""
    seen: set[int] = set()
    found: list[BaseException | None] = [error]
    while found:
        each = found.pop()
        if each is None or id(each) in seen:  # An error may be its own cause, over others.
            continue
        seen.add(id(each))
        each.__traceback__ = None
        found += [each.__cause__, each.__context__, *(each.exceptions if isinstance(each, BaseExceptionGroup) else ())]


def error_word(error: BaseException) -> ErrorWord:
    """Why a request failed, in one word; `internal` for an error that is none of the network."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout() | httpx.ProxyError():
            return "connect"
        case httpx.TimeoutException() | TimeoutError():
            return "timeout"
        case httpx.RemoteProtocolError() | httpx.NetworkError():
            return "broken_off"
        case httpx.DecodingError() | ValueError():
            return "unreadable"
        case _:
            return "internal"


def status_word(status: int) -> ErrorWord:
    """The class of an HTTP status, in one word."""
    words: tuple[ErrorWord, ...] = ("http_2xx", "http_3xx", "http_4xx", "http_5xx")
    return words[status // 100 - 2] if 200 <= status <= 599 else "no_answer"
