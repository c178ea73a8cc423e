"""The diagram in ARCHITECTURE.md has every transition of an attempt, and none that `step` does not make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

from tests.builders import artifact, changed, queued_attempt
from tests.builders import step_at_once as step

from adapter_kit.attempt.inputs import (
    CalledBack,
    CancelAnswered,
    CancelWanted,
    Checked,
    Collected,
    CollectFailed,
    Due,
    Input,
    Searched,
    SubmitAnswered,
)
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import CancelReason
from adapter_kit.port.outcomes import (
    Accepted,
    AlreadyOver,
    Broken,
    CancelPending,
    Failure,
    Found,
    Missing,
    NoAnswer,
    NotFound,
    NotSent,
    Output,
    OutputPending,
    Produced,
    ProviderRef,
    Refused,
    Running,
    Stopped,
    Throttled,
    Unclear,
    Unreadable,
    Waiting,
)
from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
JOB = job_id_for("default", "arrows")
REF = ProviderRef("run-1", {})
checked = partial(Checked, ref=REF, asked_at=BEGAN)
searched = partial(Searched, asked_at=BEGAN)
cancel_answered = partial(CancelAnswered, asked_at=BEGAN)
collect_failed = partial(CollectFailed, asked_at=BEGAN)
WHY = Failure(FailureKind.PROVIDER_ERROR, "it broke")
MOMENTS = [BEGAN + timedelta(seconds=after_s) for after_s in (1, 60, 400, 2_000, 20_000)]

INPUTS: tuple[Input, ...] = (
    Due(),
    CalledBack(),
    CalledBack(REF),
    CalledBack(REF, at_work=True),
    CalledBack(REF, Produced((Output("https://files.example/a.wav"),))),
    CancelWanted("client"),
    CancelWanted("deadline"),
    *(
        SubmitAnswered(1, outcome)
        for outcome in (Accepted(REF), Refused(WHY), Throttled(WHY, 1), NotSent("no route"), Unclear("no answer"))
    ),
    *(
        checked(outcome)
        for outcome in (
            Waiting(1),
            Running(),
            Produced((Output("https://files.example/a.wav"),)),
            OutputPending("null"),
            Unreadable("no audio", "{}"),
            Broken(WHY, may_have_cost=True),
            Stopped(may_have_cost=False),
            Missing("gone"),
            NoAnswer("away"),
        )
    ),
    *(
        cancel_answered(outcome)
        for outcome in (Stopped(may_have_cost=True), CancelPending(), AlreadyOver(), Missing("gone"), NoAnswer("away"))
    ),
    *(
        searched(outcome)
        for outcome in (Found(REF), NotFound(conclusive=True), NotFound(conclusive=False), NoAnswer("away"))
    ),
    Collected((artifact(),)),
    collect_failed(WHY, final=True),
    collect_failed(WHY, final=False),
    collect_failed(
        WHY,
        final=False,
        stored={1: artifact()},
        missing={2: "gone"},
    ),
)


def attempts() -> Iterator[Attempt]:
    fresh = queued_attempt(
        JOB,
        BEGAN,
        deadline_at=BEGAN + timedelta(seconds=1_800),
        start_within_s=120,
        run_within_s=600,
        grace_s=780,
        submissions=1,
        submit_started_at=BEGAN,
    )
    reasons = (None, *get_args(CancelReason))
    for state, reason, tries in product(get_args(AttemptState), reasons, (0, 5)):
        if reason is not None and state in ("queued", "running"):
            continue  # In these states a request to cancel takes effect at once and is never stored.
        wanted = {} if reason is None else {"cancel_reason": reason}
        yield changed(fresh, state=state, tries=tries, **wanted)
        yield changed(fresh, state=state, tries=tries, **wanted, outputs=(Output("https://files.example/a"),))


def test_the_diagram_has_exactly_the_transitions_of_the_state_machine() -> None:
    taken = {
        (attempt.state.name, after.state.name)
        for attempt, input_, now in product(attempts(), INPUTS, MOMENTS)
        if (after := step(attempt, input_, now).attempt).state.name != attempt.state.name
    }
    text = (Path(__file__).resolve().parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ {4}([a-z]+) --> ([a-z]+)$", text, re.MULTILINE))
    assert drawn == taken
