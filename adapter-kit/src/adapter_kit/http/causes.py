"""What an error was really about, where it comes wrapped in a group."""

from __future__ import annotations


def first_cause(error: BaseException) -> BaseException:
    """The first error in a group that is none itself; `error` where it is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def causes(error: BaseException) -> list[BaseException]:
    """All errors in a group that are none themselves; `error` alone where it is no group."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in causes(inner)]
    return [error]
