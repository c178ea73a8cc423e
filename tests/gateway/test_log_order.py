"""A job's log has causes before effects, whatever the clocks of the services and whichever source it is read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import artifact, attempt_event, attempt_outcome, job_fields, job_requested

from chassis.postgres.pool import open_pool
from contracts.envelope import Envelope
from contracts.failures import FailureKind
from contracts.generation import Provider
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.jobs import (
    AttemptOutcome,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRerouted,
    JobStarted,
    JobSucceeded,
    PlannedRoute,
)
from contracts.messages.requests import CancelRequested, ResolutionRequested
from gateway.queries.database import Database
from gateway.queries.log_order import in_order, merged_log
from gateway.queries.model import LogLine
from gateway.queries.projection import Known, event_name, fold
from gateway.queries.read_model_sql import ReadModel
from segue_cli.local.kafka import kafka
from segue_cli.local.postgres import postgres

BEGIN = datetime(2026, 3, 10, 12, tzinfo=UTC)
FILE = artifact()
CLOCKS = ("gateway", "orchestrator", "fal", "replicate")
SKEWS = st.fixed_dictionaries({clock: st.integers(-900, 900) for clock in CLOCKS})
Skews = dict[str, int]


@dataclass
class History:
    """The true history of a job: each message with its true time and its causes."""

    key: str = "a history"
    skews: Skews = field(default_factory=dict)
    now_s: float = 0
    messages: list[Message] = field(default_factory=list)
    true_s: list[float] = field(default_factory=list)
    causes: list[tuple[int, int]] = field(default_factory=list)
    versions: dict[int, int] = field(default_factory=dict)
    outcomes: list[AttemptOutcome] = field(default_factory=list)

    @property
    def job_id(self) -> Any:
        return job_id_for("default", self.key)

    def _say(self, message: Message, clock: str, *causes: int) -> int:
        at = BEGIN + timedelta(seconds=self.now_s + self.skews.get(clock, 0))
        self.messages.append(message.model_copy(update={"occurred_at": at}))
        self.true_s.append(self.now_s)
        here = len(self.messages) - 1
        self.causes += [(cause, here) for cause in causes]
        return here

    def after(self, seconds: float) -> History:
        self.now_s += seconds
        return self

    @property
    def _ids(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "occurred_at": BEGIN}

    def requested(self) -> int:
        times = {"accept_by": BEGIN + timedelta(days=36_500), "deadline_at": BEGIN + timedelta(hours=1)}
        return self._say(job_requested(self.job_id, BEGIN, **times), "gateway")

    def cancel_requested(self, cause: int) -> int:
        return self._say(CancelRequested(**self._ids, tenant="default"), "gateway", cause)

    def verdict(self, n: int, ref: str | None, cause: int) -> int:
        of = {"attempt_id": attempt_id_for(self.job_id, n), "provider": _at(n), "provider_ref": ref}
        return self._say(ResolutionRequested(**self._ids, tenant="default", **of), "gateway", cause)

    def job(self, event: type[JobEvent], status: str, *causes: int, **more: Any) -> int:
        self.versions[0] = self.versions.get(0, 0) + 1
        fields = job_fields(self.job_id, self.versions[0], status, BEGIN, **more)
        return self._say(event.model_validate(fields), "orchestrator", *causes)

    def accepted(self, cause: int) -> int:
        plan = [PlannedRoute(provider=_at(n), model="m", endpoint=_at(n)) for n in (1, 2)]
        return self.job(JobAccepted, "queued", cause, plan=plan, deadline_at=BEGIN + timedelta(hours=1))

    def started(self, n: int, cause: int) -> int:
        of = {"attempt_id": attempt_id_for(self.job_id, n), "provider": _at(n)}
        return self.job(JobStarted, "running", cause, **of)

    def rerouted(self, n: int, cause: int) -> int:
        left = {"from_attempt_id": attempt_id_for(self.job_id, n), "from_provider": _at(n)}
        entered = {"to_attempt_id": attempt_id_for(self.job_id, n + 1), "to_provider": _at(n + 1)}
        failure = {"kind": FailureKind.PROVIDER_ERROR, "error_code": "E1", "message": "it broke", "http_status": 500}
        return self.job(JobRerouted, "queued", cause, **left, **entered, **failure)

    def attempt(self, event: type[AttemptEvent], n: int, *causes: int, **more: Any) -> int:
        self.versions[n] = self.versions.get(n, 0) + 1
        fields = {"provider": _at(n), "endpoint": _at(n), **more}
        return self._say(attempt_event(event, self.job_id, n, self.versions[n], BEGIN, **fields), _at(n), *causes)

    def outcome(self, n: int, outcome: str) -> tuple[AttemptOutcome, ...]:
        self.outcomes.append(attempt_outcome(self.job_id, n, provider=_at(n), outcome=outcome))
        return tuple(self.outcomes)


def _at(n: int) -> Provider:
    return "fal" if n % 2 else "replicate"


FAILED = {"kind": FailureKind.PROVIDER_ERROR, "error_code": "E1", "message": "it broke", "http_status": 500}


@dataclass
class Author:
    """Draws events and their times: answers within 0.4 s, everything else within minutes."""

    draw: st.DrawFn
    history: History
    unsettled: list[tuple[int, int, int]] = field(default_factory=list)
    """Attempts that have failed, with the places of their failure and of the job's answer."""

    def soon(self) -> History:
        return self.history.after(self.draw(st.floats(0.001, 0.4)))

    def later(self) -> History:
        return self.history.after(self.draw(st.floats(0.5, 200)))

    def perhaps(self) -> bool:
        return self.draw(st.booleans())

    def runs(self, n: int, ordered: int) -> int:
        """The events of an attempt before its end."""
        last = self.soon().attempt(AttemptSubmitting, n, ordered)
        if self.perhaps():
            last = self.later().attempt(AttemptProgressed, n, last, stage="throttled")
            last = self.later().attempt(AttemptSubmitting, n, last)
        if self.perhaps():
            fields = {"message": "no answer", "resolve_by": BEGIN + timedelta(hours=1)}
            last = self.later().attempt(AttemptAmbiguous, n, last, **fields)
            if self.perhaps():
                last = self.later().verdict(n, f"run-{n}", last)
        last = self.soon().attempt(AttemptSubmitted, n, last, **ref(n))
        if n == 1:
            self.soon().started(n, last)
        for _ in range(self.draw(st.integers(0, 3))):
            last = self.later().attempt(AttemptProgressed, n, last, stage="running", **ref(n))
        self.late_results()
        return last

    def fails(self, n: int, last: int, *, for_good: bool) -> int:
        """An attempt's failure and the job's answer to it."""
        failed = self.later().attempt(AttemptFailed, n, last, **FAILED, accepted=True, **ref(n))
        outcomes = self.history.outcome(n, "failed")
        why = {"kind": FailureKind.NO_ROUTE, "message": "nobody could make it", "attempts": outcomes}
        answer = self.soon().job(JobFailed, "failed", failed, **why) if for_good else self.soon().rerouted(n, failed)
        self.unsettled.append((n, failed, answer))
        return answer

    def late_results(self) -> None:
        """Late results of attempts that have failed."""
        for n, failed, answer in self.unsettled.copy():
            if self.perhaps():
                self.unsettled.remove((n, failed, answer))
                late = {"artifacts": [FILE], "late": True}
                self.later().attempt(AttemptSucceeded, n, failed, answer, **late, **ref(n))

    def succeeds(self, n: int, last: int) -> None:
        made = self.later().attempt(AttemptSucceeded, n, last, artifacts=[FILE], **ref(n))
        of = {"attempt_id": attempt_id_for(self.history.job_id, n), "provider": _at(n), "model": "m"}
        self.soon().job(JobSucceeded, "succeeded", made, **of, artifacts=[FILE])

    def is_cancelled(self, n: int, last: int, request: int) -> None:
        cancel_requested = self.later().cancel_requested(request)
        gone = self.soon().attempt(AttemptCancelled, n, last, cancel_requested, may_have_cost=True, **ref(n))
        fields = {"effect": "may_have_cost", "attempts": self.history.outcome(n, "cancelled")}
        self.soon().job(JobCancelled, "cancelled", gone, cancel_requested, **fields)


def ref(n: int) -> dict[str, Any]:
    return {"provider_ref": f"run-{n}"}


@st.composite
def histories(draw: st.DrawFn, skews: st.SearchStrategy[Skews] = SKEWS) -> History:
    """Jobs with one to three attempts that succeed, fail or are cancelled, and attempts with late results."""
    author = Author(draw, History(skews=draw(skews)))
    request = author.history.requested()
    ordered = author.soon().accepted(request)
    attempts = draw(st.integers(1, 3))
    for n in range(1, attempts):
        ordered = author.fails(n, author.runs(n, ordered), for_good=False)
    last = author.runs(attempts, ordered)
    match draw(st.sampled_from(["succeeded", "failed", "cancelled"])):
        case "succeeded":
            author.succeeds(attempts, last)
        case "failed":
            author.fails(attempts, last, for_good=True)
        case _:
            author.is_cancelled(attempts, last, request)
    author.late_results()
    return author.history


def line_of(message: Message) -> LogLine:
    """The line that the tail makes of a message; for events of attempts, that of the view of the log sink."""
    envelope = Envelope(message, str(message.event_id), "/segue/test", None)
    if not isinstance(message, AttemptEvent):
        [line] = fold(Known(), envelope).log
        return line
    failed = message if isinstance(message, AttemptFailed) else None
    return LogLine(
        event_id=envelope.event_id,
        time=message.occurred_at,
        event=event_name(message.TYPE),
        provider=message.provider,
        attempt=message.n,
        error_kind=failed.kind if failed else None,
        error_code=(failed.error_code or failed.kind) if failed else None,
        http_status=failed.http_status if failed else None,
        version=message.version,
        provider_ref=message.provider_ref,
        late=getattr(message, "late", False),
    )


def places(history: History, order: Sequence[LogLine]) -> list[int]:
    """The place of each message in the log."""
    where = {line.event_id: place for place, line in enumerate(order)}
    return [where[str(message.event_id)] for message in history.messages]


@given(history=histories(), data=st.data())
def test_causes_come_before_effects_whatever_the_clocks_say(history: History, data: st.DataObject) -> None:
    lines = [line_of(message) for message in history.messages]
    order = in_order(data.draw(st.permutations(lines)))
    assert sorted(order, key=lambda line: line.event_id) == sorted(lines, key=lambda line: line.event_id)
    at = places(history, order)
    for cause, effect in history.causes:
        assert at[cause] < at[effect], (history.messages[cause].TYPE, history.messages[effect].TYPE)


@given(history=histories())
def test_a_later_event_comes_later_in_the_log(history: History) -> None:
    at = places(history, in_order([line_of(message) for message in history.messages]))
    # A message of the gateway may take half a minute, and has no effect that bounds its time.
    gateway = [not isinstance(message, JobEvent | AttemptEvent) for message in history.messages]
    for one, other in permutations(range(len(history.messages)), 2):
        if history.true_s[other] - history.true_s[one] > (35 if gateway[one] or gateway[other] else 2):
            assert at[one] < at[other]


@given(history=histories(st.just({})), data=st.data())
def test_with_equal_clocks_the_log_is_in_the_order_of_time(history: History, data: st.DataObject) -> None:
    order = in_order(data.draw(st.permutations([line_of(message) for message in history.messages])))
    assert [line.time for line in order] == sorted(line.time for line in order)


@given(history=histories(), data=st.data())
def test_a_part_of_the_log_is_in_the_order_of_its_own_causes(history: History, data: st.DataObject) -> None:
    # Only the end of the job tells that a cancel request was the cause of the attempt's end.
    end = next(
        n for n, message in enumerate(history.messages) if isinstance(message, JobSucceeded | JobFailed | JobCancelled)
    )
    kept = {end} | data.draw(st.sets(st.sampled_from(range(len(history.messages)))))
    order = in_order([line_of(history.messages[n]) for n in sorted(kept)])
    where = {line.event_id: place for place, line in enumerate(order)}
    assert len(order) == len(kept)
    for cause, effect in history.causes:
        if cause in kept and effect in kept:
            known = [where[str(history.messages[n].event_id)] for n in (cause, effect)]
            assert known[0] < known[1]


@given(history=histories(), data=st.data())
def test_contradictory_lines_are_all_in_the_log(history: History, data: st.DataObject) -> None:
    numbers = st.integers(0, 9)
    lines = [
        replace(line_of(message), version=data.draw(numbers), answers_to=data.draw(numbers), attempt=data.draw(numbers))
        for message in history.messages
    ]
    assert {line.event_id for line in in_order(lines)} == {line.event_id for line in lines}


def test_an_event_of_both_sources_is_in_the_log_once() -> None:
    history = History()
    lines = [line_of(history.messages[n]) for n in (history.requested(), history.accepted(0))]
    stored = [replace(line, message="from the tables") for line in lines[:1]]
    assert merged_log(stored, lines) == [*stored, lines[1]]
    assert in_order([]) == []


def eventful_history(key: str, skews: Skews) -> History:
    """fal fails, an operator finds the lost submit at Replicate, the client cancels, and fal has a late result."""
    history = History(key=key, skews=skews)
    order = history.after(0.01).accepted(history.requested())
    ref = {"provider_ref": "run-1"}
    submitted = history.after(0.1).attempt(AttemptSubmitted, 1, history.attempt(AttemptSubmitting, 1, order), **ref)
    history.after(0.01).started(1, submitted)
    running = history.after(5).attempt(AttemptProgressed, 1, submitted, stage="running", **ref)
    failed = history.after(20).attempt(AttemptFailed, 1, running, **FAILED, accepted=True, **ref)
    history.outcome(1, "failed")
    order = history.after(0.01).rerouted(1, failed)
    posted = history.after(0.02).attempt(AttemptSubmitting, 2, order)
    fields = {"message": "no answer", "resolve_by": BEGIN + timedelta(hours=1)}
    lost = history.after(30).attempt(AttemptAmbiguous, 2, posted, **fields)
    verdict = history.after(60).verdict(2, "run-2", lost)
    found = history.after(0.3).attempt(AttemptSubmitted, 2, verdict, provider_ref="run-2")
    history.after(3).attempt(AttemptSucceeded, 1, order, artifacts=[FILE], late=True, **ref)
    cancel_requested = history.after(10).cancel_requested(found)
    gone = history.after(0.5).attempt(
        AttemptCancelled, 2, found, cancel_requested, may_have_cost=True, provider_ref="run-2"
    )
    outcomes = history.outcome(2, "cancelled")
    history.after(0.01).job(JobCancelled, "cancelled", gone, effect="may_have_cost", attempts=outcomes)
    return history


MINUTES = [
    {},
    {"orchestrator": 300},
    {"orchestrator": -300},
    {"fal": 420, "replicate": -420},
    {"fal": -420, "replicate": 420},
    {"gateway": 600, "orchestrator": -200, "fal": 30, "replicate": -90},
]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("skews", MINUTES, ids=str)
async def test_the_log_is_in_order_from_the_tables_and_from_both_sources(world: Any, until: Any, skews: Skews) -> None:
    history = eventful_history(f"skewed by {skews}", skews)
    await world.store(*history.messages[::-1])
    tables = await _log(world, history)
    assert [entry["event"] for entry in tables] == [event_name(message.TYPE) for message in history.messages]
    times = [datetime.fromisoformat(entry["time"]) for entry in tables]
    assert times == [message.occurred_at for message in history.messages], "the recorded times have changed"
    published = [message for message in history.messages if not isinstance(message, AttemptEvent)]
    await world.publish(*published)

    async def tailed() -> bool:
        known = world.parts.tail.known(history.job_id)
        return bool(known.job and known.job.final and len(known.log) == len(published))

    await until(tailed)
    assert await _log(world, history) == tables


@pytest.mark.asyncio(loop_scope="session")
async def test_the_view_has_the_same_line_for_each_event_as_the_tail(world: Any) -> None:
    history = eventful_history("the same lines", {})
    await world.store(*history.messages)
    async with open_pool(world.database_url, "gateway", max_size=1) as pool:
        stored = {line.event_id: line for line in await ReadModel(Database(pool)).log(history.job_id)}
    for message in history.messages:
        line = line_of(message)
        assert replace(stored[line.event_id], message=None) == replace(line, message=None)


@pytest.mark.asyncio(loop_scope="function")
async def test_the_log_is_in_order_from_the_tail_alone(
    world_on: Any, topic_sizes: dict[str, int], tmp_path: Path, until: Any
) -> None:
    history = eventful_history("alone", MINUTES[-1])
    published = [message for message in history.messages if not isinstance(message, AttemptEvent)]
    async with (
        postgres() as database,
        kafka(topic_sizes) as cluster,
        world_on(cluster.bootstrap_servers, database.url, tmp_path) as world,
    ):
        # As if the other topic were read first.
        await world.publish(*published[::-1])
        await until(lambda: _is_known(world, history, len(published)), 15)
        await database.stop("immediate")
        log = await _log(world, history)
        assert [entry["event"] for entry in log if entry["event"].startswith("job.")] == [
            event_name(message.TYPE) for message in published if not isinstance(message, ResolutionRequested)
        ]
        await database.start()


async def _is_known(world: Any, history: History, lines: int) -> bool:
    return len(world.parts.tail.known(history.job_id).log) == lines


async def _log(world: Any, history: History) -> list[dict[str, Any]]:
    answer = await world.client.get(f"/api/jobs/{history.job_id}/logs")
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries
