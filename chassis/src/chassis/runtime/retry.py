"""Retries of work while a dependency is unavailable."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random_exponential,
)

T = TypeVar("T")


async def retry(
    work: Callable[[], Awaitable[T]],
    errors: type[Exception] | tuple[type[Exception], ...],
    *,
    pause_s: float,
    longest_pause_s: float | None = None,
    random_pauses: bool = False,
    tries: int = sys.maxsize,
    within_s: float = inf,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    on_error: Callable[[BaseException], None] | None = None,
) -> T:
    """Call `work` until it raises none of `errors`; returns its result.

    Each pause is `pause_s` seconds. With `longest_pause_s`, each is twice as long as the one before, up to that. With
    `random_pauses`, these are upper bounds. `sleep` waits for a pause, and `on_error` is called with each error before
    it; an error that one of them raises ends the retries. Raises the last error after `tries` calls, or once `within_s`
    seconds have passed since the first call, and every other error at once.
    """
    began = monotonic()
    try:
        return await work()  # At first without tenacity, which costs more than most of this work.
    except errors as error:
        first: BaseException | None = error

    def report(state: RetryCallState) -> None:
        if on_error is not None and state.outcome is not None and (error := state.outcome.exception()) is not None:
            on_error(error)

    async def called() -> T:
        nonlocal first
        if first is not None:
            error, first = first, None
            try:
                raise error
            finally:
                del error  # It has this frame, which would keep it and all that it holds.
        return await work()

    wait = wait_random_exponential if random_pauses else wait_exponential
    return await AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=wait(multiplier=pause_s, max=longest_pause_s or pause_s),
        stop=stop_after_attempt(tries) | stop_after_delay(within_s - (monotonic() - began)),
        sleep=sleep,
        before_sleep=report,
        reraise=True,
    )(called)
