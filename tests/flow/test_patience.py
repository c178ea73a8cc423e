"""Time limits of tests scale; a condition not met in time is reported with its name, the limit and the last value."""

from __future__ import annotations

import asyncio

import pytest
from tests import patience
from tests.patience import eventually, eventually_sync, patient


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.SETTING, "0.5")


def test_seconds_are_scaled_by_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert patient(30) == 15
    monkeypatch.setenv(patience.SETTING, "5")
    assert patient(30) == 150
    monkeypatch.delenv(patience.SETTING)
    assert patient(30) == 30


@pytest.mark.parametrize("given", ["much", "0", "-1", "nan", "inf"])
def test_an_invalid_factor_is_refused_with_the_name_of_the_setting(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(patience.SETTING, given)
    with pytest.raises(ValueError, match=f"{patience.SETTING} is a factor such as 1 or 5, not '{given}'"):
        patient(30)


def test_the_measured_factor_is_from_one_to_five(monkeypatch: pytest.MonkeyPatch) -> None:
    for load, at_least in ((0.0, 1.0), (6.0, 3.0), (500.0, 5.0)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load))
        monkeypatch.setattr("os.cpu_count", lambda: 2)
        assert at_least <= patience.measured() <= 5


async def test_the_first_true_value_is_returned() -> None:
    answers = iter((0, 0, 7))

    async def answer() -> int:
        return next(answers)

    assert await eventually(answer) == 7
    assert eventually_sync(iter([0, "x"]).__next__) == "x"


async def test_a_condition_that_stays_false_is_reported_with_the_last_value() -> None:
    async def three_lines() -> list[str]:
        return []

    with pytest.raises(AssertionError, match=r"^not within 0.1 s: three_lines; seen last: \[\]$"):
        await eventually(three_lines, within_s=0.2)
    with pytest.raises(AssertionError, match=r"^not within 0.1 s: the port is open; seen last: two lines$"):
        eventually_sync(lambda: False, 0.2, "the port is open", tell=lambda: "two lines")


async def test_a_condition_that_never_returns_is_cancelled() -> None:
    with pytest.raises(AssertionError, match=r"seen last: 'nothing'$"):
        await eventually(asyncio.Event().wait, within_s=0.2)


async def test_an_error_of_the_condition_is_raised_unchanged() -> None:
    async def refused() -> bool:
        raise TimeoutError("of the condition")

    with pytest.raises(TimeoutError, match="of the condition"):
        await eventually(refused)
