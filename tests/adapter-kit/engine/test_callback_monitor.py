"""When callbacks count as arriving, and which runs are counted as suspected duplicates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest
from prometheus_client import REGISTRY
from tests.builders import changed, queued_attempt

from adapter_kit.attempt.inputs import Checked, Input, SubmitAnswered
from adapter_kit.attempt.model import Attempt
from adapter_kit.engine.callback_monitor import MISSING_AFTER_S, CallbackMonitor, callbacks_arriving
from adapter_kit.port.outcomes import (
    Accepted,
    Broken,
    Failure,
    NoAnswer,
    Output,
    Produced,
    ProviderRef,
    Running,
    Stopped,
)
from contracts.failures import FailureKind
from contracts.ids import job_id_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = job_id_for("default", "callback_monitor")
REF = ProviderRef("run-1", {})
checked = partial(Checked, ref=REF, asked_at=NOW)
ENDED = changed(
    queued_attempt(job_id_for("default", "callback_monitor"), NOW, expects_callback=True), state="collecting", ref=REF
)
CALLED = replace(ENDED, called_back=True)
POLLED = replace(ENDED, expects_callback=False)
PRODUCED = checked(Produced((Output("https://files.example/a.wav"),)))
BROKEN = checked(Broken(Failure(FailureKind.MODEL_ERROR, "out of memory"), may_have_cost=True))


@pytest.mark.parametrize(
    ("attempt", "input_", "expected"),
    [
        (ENDED, PRODUCED, False),
        (ENDED, BROKEN, False),
        (CALLED, PRODUCED, True),
        (CALLED, BROKEN, True),
        (ENDED, checked(Running()), None),
        (ENDED, checked(NoAnswer("502")), None),
        (ENDED, checked(Stopped(may_have_cost=False)), None),
        (POLLED, PRODUCED, None),
        (ENDED, SubmitAnswered(1, Accepted(REF)), None),
    ],
)
def test_the_end_of_a_run_shows_whether_callbacks_arrive(
    attempt: Attempt, input_: Input, *, expected: bool | None
) -> None:
    assert callbacks_arriving(attempt, input_) is expected


def test_callbacks_arrive_from_the_first_one_until_one_is_missing_and_none_was_heard_of_late() -> None:
    now = 100.0
    monitor = CallbackMonitor("fal", lambda: now)

    def after(seconds: float, attempt: Attempt | None) -> bool:
        nonlocal now
        now += seconds
        if attempt is None:
            monitor.heard()
        else:
            monitor.note(attempt, PRODUCED)
        return monitor.callbacks_arrive

    assert not monitor.callbacks_arrive
    assert not after(0, ENDED)
    assert after(0, None)
    assert after(MISSING_AFTER_S - 1, ENDED)
    assert after(0, CALLED)
    assert after(MISSING_AFTER_S - 1, ENDED)
    assert not after(1, ENDED)
    assert after(0, CALLED)


def suspected() -> float:
    return REGISTRY.get_sample_value("segue_duplicates_suspected_total", {"provider": "replicate"}) or 0.0


def test_a_second_run_is_counted_from_callbacks_and_from_answers() -> None:
    callback_monitor = CallbackMonitor("replicate")
    before = suspected()
    assert not callback_monitor.suspect(ENDED, REF)
    assert not callback_monitor.suspect(ENDED, None)
    callback_monitor.note(ENDED, SubmitAnswered(1, Accepted(REF)))
    assert suspected() == before
    assert callback_monitor.suspect(ENDED, ProviderRef("run-2", {}))
    callback_monitor.note(ENDED, SubmitAnswered(1, Accepted(ProviderRef("run-2", {}))))
    callback_monitor.note(changed(ENDED, state="failed", ref=None), SubmitAnswered(1, Accepted(REF)))
    assert suspected() == before + 3
