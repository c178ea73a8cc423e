"""Retries over transient errors, within their limits, and ended by an exception of the sleep function."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence

import pytest

from chassis.runtime.retry import retry


class Work:
    """Fails with each of the errors in turn, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.pauses: list[float] = []

    async def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 3))


async def test_work_is_retried_until_it_succeeds() -> None:
    work = Work(OSError("1"), TimeoutError("2"))
    told: list[str] = []
    errors = (OSError, TimeoutError)
    assert await retry(work, errors, pause_s=0.2, sleep=work.sleep, on_error=lambda e: told.append(str(e))) == "done"
    assert (work.pauses, told) == ([0.2, 0.2], ["1", "2"])


async def test_a_lambda_is_awaited_as_well() -> None:
    async def answer(what: str) -> str:
        return what

    assert await retry(lambda: answer("done"), OSError, pause_s=0.2) == "done"


@pytest.mark.parametrize(("longest_s", "pauses"), [(None, [0.1, 0.1, 0.1, 0.1]), (0.3, [0.1, 0.2, 0.3, 0.3])])
async def test_pauses_are_constant_or_grow_to_the_longest(longest_s: float | None, pauses: Sequence[float]) -> None:
    work = Work(*[OSError()] * 4)
    await retry(work, OSError, pause_s=0.1, longest_pause_s=longest_s, sleep=work.sleep)
    assert work.pauses == pauses


async def test_random_pauses_are_no_longer_than_the_fixed_ones() -> None:
    work = Work(*[OSError()] * 4)
    await retry(work, OSError, pause_s=0.1, longest_pause_s=0.3, random_pauses=True, sleep=work.sleep)
    assert all(0 <= pause <= most for pause, most in zip(work.pauses, [0.1, 0.2, 0.3, 0.3], strict=True))


async def test_the_last_error_is_raised_after_the_last_try() -> None:
    work = Work(OSError("1"), OSError("2"), OSError("3"))
    with pytest.raises(OSError, match="2"):
        await retry(work, OSError, pause_s=0.2, tries=2, sleep=work.sleep)
    assert work.pauses == [0.2]


async def test_the_last_error_is_raised_once_the_time_is_up() -> None:
    work = Work(OSError("1"), OSError("2"))
    with pytest.raises(OSError, match="1"):
        await retry(work, OSError, pause_s=0.2, within_s=0, sleep=work.sleep)
    assert work.pauses == []


@pytest.mark.parametrize("error", [LookupError(), asyncio.CancelledError()])
async def test_another_error_or_a_cancellation_is_raised_at_once(error: BaseException) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        await retry(work, OSError, pause_s=0.2, sleep=work.sleep)
    assert work.pauses == []


async def test_an_exception_of_the_sleep_ends_the_retries() -> None:
    async def stop(_seconds: float) -> None:
        raise InterruptedError("the process stops")

    with pytest.raises(InterruptedError):
        await retry(Work(OSError("1")), OSError, pause_s=0.2, sleep=stop)


@pytest.mark.parametrize("failures", [1, 2])
async def test_what_a_try_that_failed_held_is_freed_without_a_collection_of_garbage(failures: int) -> None:
    class Body:
        pass

    bodies: weakref.WeakSet[Body] = weakref.WeakSet()

    async def work() -> int:
        body = Body()
        bodies.add(body)
        if (tries := tries_of.pop()) <= failures:
            raise OSError(f"try {tries}, with {body}")
        return tries

    async def sleep(_: float) -> None:
        pass

    tries_of = [3, 2, 1]
    gc.collect()
    gc.disable()
    try:
        assert await retry(work, OSError, pause_s=0.1, sleep=sleep) == failures + 1
        assert not bodies
    finally:
        gc.enable()
