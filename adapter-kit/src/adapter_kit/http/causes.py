"""The errors within an exception group."""

from __future__ import annotations


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
