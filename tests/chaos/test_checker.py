"""The checker finds each kind of violation: each is inserted once into a correct history."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.checks.checker import check
from chaos.cluster.disturbances import ProcessEnd
from chaos.cluster.scale import BREAKER_SHUT_S
from chaos.evidence.model import ClientAnswer, DeadLetter, Event, Evidence, Tables, UnexpectedEnd, Window
from chaos.load.faults import TIMED_FAULTS, explained
from contracts.failures import FailureKind as Kind
from contracts.ids import attempt_id_for, job_id_for

NOON = 1_800_000_000.0
TOKEN = "t-0001"
JOB = job_id_for("default", TOKEN)
FIRST, SECOND = attempt_id_for(JOB, 1), attempt_id_for(JOB, 2)
FILE = {"name": "audio.wav", "sha256": "ab" * 32, "size_bytes": 12}
AWAY = frozenset({"unreachable", "unavailable"})
Change = Callable[["History"], object]


@dataclass
class History:
    """A correct history: refused by fal for lack of credit, completed by Replicate; all sources agree."""

    answers: list[ClientAnswer] = field(default_factory=list)
    bills: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    read: dict[tuple[str, int], int] = field(default_factory=lambda: {("segue.jobs", 0): 4})
    dead: list[DeadLetter] = field(default_factory=list)
    ended: list[UnexpectedEnd] = field(default_factory=list)
    exits: list[ProcessEnd] = field(default_factory=list)
    windows: list[Window] = field(
        default_factory=lambda: [Window("no credit", NOON, NOON + 2, frozenset({"insufficient_balance"}), "fal")]
    )

    def event(self, at: float, what: str, **data: Any) -> None:
        topic = {"job.requested": "segue.requests"}.get(what, f"segue.{what.partition('.')[0]}s")
        subject = data.get("attempt_id", JOB) if what.startswith("attempt.") else JOB
        event_id = f"{subject}|{what}|{data.get('version', 0)}"
        when = datetime.fromtimestamp(NOON + at, UTC)
        self.events.append(Event(topic, 0, len(self.events), what, event_id, JOB, when, data))

    def post(self, at: float, attempt_id: str, provider: str, status: int | None, ref: str | None = None) -> None:
        self.bills.append(
            {"event": "post", "at": NOON + at, "provider": provider, "accepted": ref is not None, "status": status}
            | {"request_id": ref, "attempt_id": attempt_id, "input": {"prompt": f"a warm pad [{TOKEN}]"}}
        )

    def ending(self, at: float, ref: str, outcome: str = "succeeded", usd: float = 0.2) -> None:
        self.bills.append(
            {"event": "finished", "at": NOON + at, "request_id": ref, "outcome": outcome, "billed_usd": usd}
        )

    def client_answer(self, at: float, call: Any, code: int | None, job_id: str | None = JOB, /, **body: Any) -> None:
        self.answers.append(ClientAnswer(NOON + at, TOKEN, call, code, job_id, body))

    def evidence(self) -> Evidence:
        log = [
            {"event_id": one} for one in sorted({one.event_id for one in self.events if not one.data.get("unstored")})
        ]
        log += [{"event_id": one} for one in self.twice]
        tables = Tables(**self.rows, log=log, unfinished=self.unfinished, next_offsets=self.read)
        ends = {("segue.jobs", 0): 4}
        return Evidence(
            self.answers, self.bills, self.events, tables, ends, self.dead, self.windows, self.ended, self.exits
        )

    twice: list[str] = field(default_factory=list)

    def change(self, table: str, subject: str, **columns: Any) -> None:
        for row in self.rows[table]:
            if subject in (row.get("attempt_id"), row.get("job_id")):
                row.update(columns)

    def drop(self, table: str, subject: str) -> None:
        self.rows[table] = [row for row in self.rows[table] if row.get("attempt_id", row["job_id"]) != subject]

    def rewrite(self, what: str, **data: Any) -> None:
        self.events = [replace(one, data={**one.data, **data}) if one.type == what else one for one in self.events]

    def forget(self, what: str) -> None:
        self.events = [one for one in self.events if one.type != what]


def clean() -> History:
    history = History()
    spec = {"fields": {"providers": ["fal", "replicate"]}, "faults": []}
    history.client_answer(0.0, "post", None, None, spec=spec)
    history.client_answer(0.1, "post", 202, spec=spec, answer={"job_id": JOB})
    history.event(0.1, "job.requested", input={"prompt": f"a warm pad [{TOKEN}]"})
    history.event(0.2, "job.accepted", version=1, status="queued")
    history.event(0.3, "attempt.submitting", attempt_id=FIRST, version=1)
    history.post(0.4, FIRST, "fal", 403)
    no = {"kind": "insufficient_balance", "accepted": False, "message": "no credit"}
    history.event(0.5, "attempt.failed", attempt_id=FIRST, version=2, **no)
    history.event(0.6, "job.rerouted", version=2, status="queued")
    history.event(0.7, "attempt.submitting", attempt_id=SECOND, version=1)
    history.post(0.8, SECOND, "replicate", 201, "run-2")
    history.event(0.9, "attempt.submitted", attempt_id=SECOND, version=2, provider_ref="run-2")
    history.event(1.0, "job.started", version=3, status="running", attempt_id=SECOND)
    history.ending(1.1, "run-2")
    history.event(1.2, "attempt.succeeded", attempt_id=SECOND, version=3, artifacts=[FILE])
    history.event(1.3, "job.succeeded", version=4, status="succeeded", attempt_id=SECOND, artifacts=[FILE])
    history.client_answer(1.5, "page", 200, status="succeeded")
    history.client_answer(2.0, "job", 200, status="succeeded")
    history.client_answer(2.1, "artifact", 200, **FILE)
    history.rows = tables_of_a_clean_history()
    return history


def tables_of_a_clean_history() -> dict[str, list[dict[str, Any]]]:
    one = {"attempt_id": FIRST, "job_id": JOB, "provider": "fal"}
    two = {"attempt_id": SECOND, "job_id": JOB, "provider": "replicate"}
    failed = {**one, "state": "failed", "version": 2, "provider_ref": None}
    made = {**two, "state": "succeeded", "version": 3, "provider_ref": "run-2"}
    return {
        "jobs": [{"job_id": JOB, "status": "succeeded", "version": 4}],
        "decided": [{"job_id": JOB, "state": "succeeded", "version": 4}],
        "attempts": [dict(failed), dict(made)],
        "ledger": [dict(failed), dict(made)],
        "ordered": [{**one, "live": False}, {**two, "live": False}],
        "artifacts": [{"job_id": JOB, "attempt_id": SECOND, **FILE}],
    }


def failed_for(history: History, kind: str) -> None:
    """Replace the success by a failure of the second attempt."""
    history.forget("attempt.succeeded")
    history.forget("job.succeeded")
    history.event(1.2, "attempt.failed", attempt_id=SECOND, version=3, kind=kind, accepted=True, message="bad")
    history.event(1.3, "job.failed", version=4, status="failed", kind="no_route", message="none left", attempts=[1, 2])
    history.change("attempts", SECOND, state="failed")
    history.change("ledger", SECOND, state="failed")
    history.change("jobs", JOB, status="failed")
    history.change("decided", JOB, state="failed")
    history.rows["artifacts"] = []
    history.answers = [
        replace(one, body={**one.body, "status": "failed"}) if one.call in ("page", "job") else one
        for one in history.answers
        if one.call != "artifact"
    ]


def throttled(history: History, status: int) -> None:
    """The second attempt is refused for now, and not submitted again."""
    failed_for(history, "unavailable")
    history.rewrite("attempt.failed", accepted=False)
    history.events = [
        replace(one, type="attempt.progressed") if one.type == "attempt.submitted" else one for one in history.events
    ]
    history.bills = [
        one | {"status": status, "accepted": False, "request_id": None} if one.get("attempt_id") == SECOND else one
        for one in history.bills
        if one["event"] == "post"
    ]
    history.rewrite("attempt.progressed", provider_ref=None)
    history.change("ledger", SECOND, provider_ref=None)
    history.change("attempts", SECOND, provider_ref=None)


def posted_too_early(history: History) -> None:
    """The second attempt is POSTed before the outcome of the first, whose answer was lost, is known."""
    history.bills[0] |= {"status": None}
    history.events = [
        replace(one, at=datetime.fromtimestamp(NOON + 1.0, UTC))
        if one.attempt_id == FIRST and "failed" in one.type
        else one
        for one in history.events
    ]


def paid_twice(history: History) -> None:
    """fal accepted the first attempt after all, and finished it while the second ran at Replicate."""
    history.bills[0] |= {"status": 200, "accepted": True, "request_id": "run-1"}
    history.ending(1.4, "run-1")
    history.change("ledger", FIRST, provider_ref="run-1")
    history.rewrite("attempt.failed", kind="cancelled_by_provider", accepted=True)
    history.windows.append(Window("aborted", NOON, NOON + 2, frozenset({"cancelled_by_provider"})))


def never_accepted_but_billed(history: History) -> None:
    history.bills[0] |= {"status": None, "accepted": True, "request_id": "run-1"}
    history.ending(0.45, "run-1", outcome="failed", usd=0.0)
    history.change("ledger", FIRST, provider_ref="run-1")
    history.rewrite("attempt.failed", kind="never_accepted", accepted=False)


def second_end(history: History) -> None:
    history.event(1.4, "job.cancelled", version=5, status="cancelled", effect="never_sent")
    for table in ("jobs", "decided"):
        history.change(table, JOB, version=5)


def first_failed(history: History, kind: str, *, accepted: bool = False) -> None:
    """The first attempt ends for another reason than the one that a fault explains, and the job succeeds."""
    history.rewrite("attempt.failed", kind=kind, accepted=accepted)


def made_and_lost(history: History) -> None:
    """fal makes and bills the first run, Segue says that its output was lost, and Replicate is paid as well."""
    history.bills[0] |= {"status": 200, "accepted": True, "request_id": "run-1"}
    history.ending(0.45, "run-1")
    history.change("ledger", FIRST, provider_ref="run-1")
    history.change("attempts", FIRST, provider_ref="run-1")
    first_failed(history, "output_lost", accepted=True)


def third_attempt(history: History) -> None:
    """The first run lives on, the second attempt is not sent, and the third one is POSTed meanwhile."""
    third = attempt_id_for(JOB, 3)
    made_and_lost(history)
    history.bills = [one | {"at": NOON + 1.4} if one.get("request_id") == "run-1" and "outcome" in one else one
                     for one in history.bills]  # fmt: skip
    history.windows.append(Window("files gone", NOON, NOON + 2, frozenset({"output_lost"}), "fal"))
    history.windows.append(Window("no way", NOON, NOON + 2, frozenset({"unavailable"})))
    history.events = [
        replace(one, data={**one.data, "attempt_id": third}, event_id=f"third {one.event_id}")
        if one.data.get("attempt_id") == SECOND
        else one
        for one in history.events
    ]
    history.bills = [one | {"attempt_id": third} if one.get("attempt_id") == SECOND else one for one in history.bills]
    history.event(0.65, "attempt.failed", attempt_id=SECOND, version=1, kind="unavailable", accepted=False, message="")
    two = {"attempt_id": SECOND, "job_id": JOB, "provider": "fal", "state": "failed", "version": 1}
    for table in ("attempts", "ledger", "ordered"):
        history.change(table, SECOND, attempt_id=third)
        history.rows[table].insert(1, {**two, "provider_ref": None, "live": False})
    history.change("artifacts", SECOND, attempt_id=third)


def unsent(history: History, kind: str) -> None:
    """The first attempt ends without a POST."""
    history.bills.pop(0)
    first_failed(history, kind)


def expired_too_early(history: History) -> None:
    unsent(history, "expired")
    history.rewrite("job.requested", deadline_at=datetime.fromtimestamp(NOON + 100, UTC).isoformat())


def never_accepted_first(history: History, *, posted: bool) -> None:
    """The first attempt counts as never accepted, with a POST that fal refused or without one."""
    unsent(history, "never_accepted")
    if posted:
        history.post(0.4, FIRST, "fal", None)


def ambiguous_at_the_deadline(history: History) -> None:
    failed_for(history, "ambiguous_submission")
    history.rewrite("attempt.submitted", provider_ref=None)
    history.bills = [one | {"status": None} if one.get("attempt_id") == SECOND else one for one in history.bills]
    history.change("ledger", SECOND, provider_ref=None)
    history.change("attempts", SECOND, provider_ref=None)
    history.events = [
        replace(one, data={**one.data, "kind": "insufficient_balance"}) if one.attempt_id == FIRST else one
        for one in history.events
    ]
    history.rewrite("job.failed", kind="ambiguous_submission")
    history.rewrite("job.requested", deadline_at=datetime.fromtimestamp(NOON + 1.1, UTC).isoformat())


def expired(history: History, *, at: float, deadline_s: float | None = None) -> None:
    """The job expires before anything of it is sent."""
    kept = ("job.requested", "job.accepted")
    history.events = [one for one in history.events if one.type in kept]
    history.event(at, "job.failed", version=2, status="failed", kind="expired", message="too late", attempts=[])
    history.bills = []
    for table in ("attempts", "ledger", "ordered", "artifacts"):
        history.rows[table] = []
    for table, column in (("jobs", "status"), ("decided", "state")):
        history.change(table, JOB, version=2, **{column: "failed"})
    history.answers = [one for one in history.answers if one.call != "artifact"]
    for n, one in enumerate(history.answers):
        body = {**one.body, **({"status": "failed"} if one.call in ("page", "job") else {})}
        if "spec" in body and deadline_s is not None:
            body["spec"] = {"fields": {"deadline_s": deadline_s}, "faults": []}
        history.answers[n] = replace(one, body=body)


def expired_twice(history: History) -> None:
    expired(history, at=0.05)
    history.event(0.3, "job.failed", version=3, status="failed", kind="expired", message="too late", attempts=[])
    for table in ("jobs", "decided"):
        history.change(table, JOB, version=3)


def expired_late(history: History) -> None:
    """It expires unsent after a 202, of which the unanswered POST before it is no excuse."""
    expired(history, at=1.0)


def expired_by_a_fault_long_ago(history: History) -> None:
    expired(history, at=90.0, deadline_s=90)
    history.windows = [replace(one, began=NOON - 100, ended=NOON - 99) for one in history.windows]


def refused(history: History, code: int | None) -> None:
    """Another client's request is answered with that and never becomes a job."""
    history.answers.append(ClientAnswer(NOON, "t-0002", "post", code, None, {"spec": {"fields": {}, "faults": []}}))


def another_clients(history: History) -> None:
    answer = {"spec": {"fields": {}, "faults": []}, "answer": {"job_id": JOB}}
    history.answers.append(ClientAnswer(NOON + 0.2, "t-0002", "post", 202, JOB, answer))


def contradicted(history: History) -> None:
    twin = next(one for one in history.events if one.type == "attempt.succeeded")
    history.events.append(replace(twin, offset=99, data={**twin.data, "artifacts": []}))


def cancelled_after_success(history: History) -> None:
    """The job is cancelled 100 ms after its attempt has succeeded, and nothing was wrong at that time."""
    first_failed(history, "content_policy")
    history.windows = []
    history.forget("job.succeeded")
    history.event(1.4, "job.cancelled", version=4, status="cancelled", effect="stopped")
    history.answers = [one for one in history.answers if one.call != "artifact"]
    for n, one in enumerate(history.answers):
        body = {**one.body, **({"status": "cancelled"} if one.call in ("page", "job") else {})}
        if "spec" in body:
            body["spec"] = {"fields": {}, "faults": ["refuse-policy"]}
        history.answers[n] = replace(one, body=body)
    history.answers.insert(2, ClientAnswer(NOON + 1.35, TOKEN, "cancel", 202, JOB, {"status": "running"}))
    history.change("jobs", JOB, status="cancelled")
    history.change("decided", JOB, state="cancelled")


def told_another_end(history: History, call: Any) -> None:
    """A client is told an end that no event says, before it is told the right one."""
    history.answers.insert(2, ClientAnswer(NOON + 1.1, TOKEN, call, 200, JOB, {"status": "failed"}))


VIOLATIONS: dict[str, tuple[str, Change]] = {
    "no request": ("lost", lambda h: h.forget("job.requested")),
    "no end": ("lost", lambda h: h.forget("job.succeeded")),
    "no row of the job": ("lost", lambda h: h.drop("jobs", JOB)),
    "404": ("lost", lambda h: h.client_answer(1.0, "job", 404)),
    "an event that was not stored": ("lost", lambda h: h.rewrite("attempt.submitted", unstored=True)),
    "an attempt that no ledger has": ("lost", lambda h: h.drop("ledger", FIRST)),
    "an attempt that the read model lacks": ("lost", lambda h: h.drop("attempts", SECOND)),
    "two accepted POSTs": ("paid_twice", lambda h: h.post(0.85, SECOND, "replicate", 201, "run-3")),
    "POSTed again after silence": ("paid_twice", lambda h: h.bills.insert(0, {**h.bills[0], "status": None})),
    "POSTed again after a 502": ("paid_twice", lambda h: h.bills.insert(0, {**h.bills[0], "status": 502})),
    "the next one in mid-air": ("paid_twice", posted_too_early),
    "two runs at once": ("paid_twice", paid_twice),
    "never accepted, yet billed": ("paid_twice", never_accepted_but_billed),
    "the first had succeeded": (
        "paid_twice",
        lambda h: h.event(0.45, "attempt.succeeded", attempt_id=FIRST, version=3),
    ),
    "a row that is left": ("stuck", lambda h: h.unfinished.append("unpublished by the orchestrator: segue.jobs")),
    "a job that runs on": ("stuck", lambda h: h.change("jobs", JOB, status="running")),
    "a job undecided": ("stuck", lambda h: h.change("decided", JOB, state="queued")),
    "an attempt that runs on": ("stuck", lambda h: h.change("ledger", SECOND, state="collecting")),
    "an attempt taken for live": ("stuck", lambda h: h.change("ordered", SECOND, live=True)),
    "a POST without a name": ("phantom", lambda h: h.bills.append({**h.bills[0], "attempt_id": None})),
    "two jobs of one key": ("phantom", lambda h: h.client_answer(1.0, "repeat", 202, job_id_for("default", "another"))),
    "a job nobody asked for": ("phantom", lambda h: h.answers.clear()),
    "an attempt nobody ordered": ("phantom", lambda h: h.drop("ordered", FIRST)),
    "a run that nobody knows": ("phantom", lambda h: h.change("ledger", SECOND, provider_ref=None)),
    "a run that nobody billed": ("phantom", lambda h: h.change("ledger", FIRST, provider_ref="run-9")),
    "an artifact from nowhere": (
        "phantom",
        lambda h: h.rows["artifacts"].append({**h.rows["artifacts"][0], "attempt_id": FIRST}),
    ),
    "a bare 500": ("wrong_ending", lambda h: h.client_answer(0.05, "post", 500, None)),
    "another end": ("wrong_ending", second_end),
    "the table says otherwise": ("wrong_ending", lambda h: h.change("jobs", JOB, status="failed")),
    "the orchestrator says otherwise": ("wrong_ending", lambda h: h.change("decided", JOB, state="failed")),
    "the ledger says otherwise": ("wrong_ending", lambda h: h.change("ledger", FIRST, state="cancelled")),
    "the client was told otherwise": ("wrong_ending", lambda h: h.client_answer(3.0, "job", 200, status="failed")),
    "never told the end": ("wrong_ending", lambda h: h.client_answer(3.0, "job", 200, status="running")),
    "no artifact": ("wrong_ending", lambda h: h.answers.pop()),
    "another artifact": (
        "wrong_ending",
        lambda h: h.answers.append(replace(h.answers.pop(), body={**FILE, "sha256": "cd" * 32})),
    ),
    "an artifact the table lacks": ("wrong_ending", lambda h: h.rows["artifacts"].clear()),
    "a failure that nothing explains": ("wrong_ending", lambda h: failed_for(h, "provider_error")),
    "said to be unasked, and taken": ("wrong_ending", lambda h: failed_for(h, "unavailable")),
    "said to be unasked after a 502": ("wrong_ending", lambda h: throttled(h, 502)),
    "an answer that is none": ("wrong_ending", lambda h: h.client_answer(1.0, "cancel", 500)),
    "accepted, and no bill": ("wrong_ending", lambda h: h.rewrite("attempt.failed", accepted=True)),
    "a gap in a job's versions": ("gap", lambda h: h.forget("job.rerouted")),
    "a gap in an attempt's versions": ("gap", lambda h: h.forget("attempt.submitted")),
    "an old version in the table": ("gap", lambda h: h.change("jobs", JOB, version=3)),
    "a number that is skipped": ("gap", lambda h: h.drop("attempts", FIRST)),
    "a log-sink that lags": ("gap", lambda h: h.read.update({("segue.jobs", 0): 3})),
    "an event that is stored twice": ("gap", lambda h: h.twice.append(h.events[3].event_id)),
    "nobody could look it up": (
        "wrong_ending",
        lambda h: h.answers.remove(next(t for t in h.answers if t.call == "job")),
    ),
    "a process that ended by itself": (
        "unexpected_end",
        lambda h: h.ended.append(UnexpectedEnd("fal-adapter-1", "TypeError: why not")),
    ),
    "made, called lost, and paid for elsewhere": ("paid_twice", made_and_lost),
    "a failure before a success that nothing explains": ("wrong_ending", lambda h: first_failed(h, "provider_error")),
    "the one before the last still runs": ("paid_twice", third_attempt),
    "told of another end in between": ("wrong_ending", lambda h: told_another_end(h, "page")),
    "told of another end by a cancel": ("wrong_ending", lambda h: told_another_end(h, "cancel")),
    "an event that contradicts itself": ("wrong_ending", contradicted),
    "another client's job": ("phantom", another_clients),
    "another client's input": (
        "phantom",
        lambda h: h.bills[1].update(input={"prompt": "a warm pad [t-0002]"}),
    ),
    "a bill of another provider": ("phantom", lambda h: h.bills[1].update(provider="fal")),
    "another run in the read model": ("phantom", lambda h: h.change("attempts", SECOND, provider_ref="run-9")),
    "another run in an event": ("phantom", lambda h: h.rewrite("attempt.submitted", provider_ref="run-9")),
    "a client that was refused": ("wrong_ending", lambda h: refused(h, 422)),
    "a client that was never accepted": ("lost", lambda h: refused(h, 503)),
    "a client that was never answered": ("lost", lambda h: refused(h, None)),
    "a 202 without a job": ("wrong_ending", lambda h: refused(h, 202)),
    "a page that nobody can read": (
        "wrong_ending",
        lambda h: h.answers.append(ClientAnswer(NOON, "", "page", 500)),
    ),
    "unavailable without a fault": ("wrong_ending", lambda h: unsent(h, "unavailable")),
    "unreachable without a fault": ("wrong_ending", lambda h: unsent(h, "unreachable")),
    "never accepted without a fault": ("wrong_ending", lambda h: never_accepted_first(h, posted=False)),
    "left open at the deadline without a fault": ("wrong_ending", ambiguous_at_the_deadline),
    "expired twice": ("wrong_ending", expired_twice),
    "expired unsent after a 202": ("wrong_ending", expired_late),
    "expired by a fault long ago": ("wrong_ending", expired_by_a_fault_long_ago),
    "an attempt that expired too early": ("wrong_ending", expired_too_early),
    "cancelled after it had succeeded": ("wrong_ending", cancelled_after_success),
    "no row at the orchestrator": ("lost", lambda h: h.drop("decided", JOB)),
    "a version that was never published": ("gap", lambda h: h.change("ledger", FIRST, version=3)),
    "a decision that was never published": ("gap", lambda h: h.change("decided", JOB, version=5)),
    "a process that a signal ended": (
        "unexpected_end",
        lambda h: h.exits.append(ProcessEnd(NOON, "fal-adapter-1", "fal-adapter", -11)),
    ),
    "a process that could not start": (
        "unexpected_end",
        lambda h: h.exits.append(ProcessEnd(NOON, "fal-adapter-1", "fal-adapter", 1)),
    ),
    "a process that was unhealthy without a fault": (
        "unexpected_end",
        lambda h: h.exits.append(ProcessEnd(NOON, "fal-adapter-1", "fal-adapter", 70)),
    ),
    "a dead letter": ("dead_letter", lambda h: h.dead.append(DeadLetter("log-sink", "segue.jobs", JOB, "why not"))),
}


def test_a_correct_history_has_no_violation() -> None:
    assert check(clean().evidence()) == []


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_found(name: str) -> None:
    kind, change = VIOLATIONS[name]
    history = copy.deepcopy(clean())
    change(history)
    found = check(history.evidence())
    assert kind in {one.kind for one in found}, found


def test_an_injected_fault_explains_a_failure() -> None:
    history = clean()
    failed_for(history, "model_error")
    history.answers = [
        replace(one, body={**one.body, "spec": {"fields": {}, "faults": ["out-of-memory"]}})
        if "spec" in one.body
        else one
        for one in history.answers
    ]
    assert check(history.evidence()) == []


@pytest.mark.parametrize(
    ("provider", "kind", "window", "is_explained"),
    [
        ("fal", Kind.RUN_TIMEOUT, Window("fal hard-down", NOON, NOON + 1, provider="fal", hides_results=True), True),
        ("fal", Kind.RUN_TIMEOUT, Window("fal lost-answers", NOON, NOON + 1, provider="fal"), False),
        ("fal", Kind.RUN_TIMEOUT, Window("down", NOON, NOON + 1, provider="replicate", hides_results=True), False),
        ("replicate", Kind.RUN_TIMEOUT, Window("down", NOON, NOON + 1, hides_results=True), False),
        ("fal", Kind.MODEL_ERROR, Window("fal hard-down", NOON, NOON + 1, provider="fal", hides_results=True), False),
        ("replicate", Kind.START_TIMEOUT, Window("none", NOON, NOON), True),
    ],
)
def test_only_at_fal_and_only_without_the_result_a_start_deadline_may_be_taken_for_the_limit_of_the_run(
    provider: str, kind: Kind, window: Window, *, is_explained: bool
) -> None:
    assert explained(kind, provider, ["stuck-queue"], [window]) is is_explained


def test_the_faults_that_hide_results_are_those_that_refuse_to_give_them() -> None:
    assert {name for name, fault in TIMED_FAULTS.items() if fault.hides_results} == {"hard-down", "deaf-polls"}


def test_a_throttled_attempt_that_ends_unavailable_is_no_violation() -> None:
    history = clean()
    throttled(history, 429)
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}
    history.windows.append(Window("throttled", NOON, NOON + 1, frozenset({"unavailable"}), "replicate"))
    assert check(history.evidence()) == []


def test_providers_unavailable_until_the_deadline_explain_an_expired_job() -> None:
    history = clean()
    throttled(history, 429)
    history.bills = []
    history.rewrite("attempt.failed", kind="unavailable")
    history.rewrite("job.failed", kind="expired")
    history.rewrite("job.requested", deadline_at=datetime.fromtimestamp(NOON + 100, UTC).isoformat())
    history.windows.append(Window("back too early", NOON - 1, NOON + 99, AWAY))
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}
    history.windows.append(Window("away", NOON - 1, NOON + 101, AWAY))
    assert check(history.evidence()) == []


def test_an_event_published_twice_counts_once() -> None:
    history = clean()
    history.events += [replace(one, offset=one.offset + 100) for one in history.events]
    assert check(history.evidence()) == []


def test_a_killed_adapter_explains_what_was_never_sent() -> None:
    for provider, kinds in (("fal", set()), ("replicate", {"wrong_ending"})):
        history = clean()
        never_accepted_first(history, posted=False)
        history.windows = [Window("SIGKILL", NOON, NOON + 0.2, frozenset({"never_accepted"}), provider)]
        assert {one.kind for one in check(history.evidence())} == kinds


def test_a_killed_adapter_does_not_explain_that_a_provider_refused() -> None:
    history = clean()
    never_accepted_first(history, posted=True)
    killed = Window("SIGKILL", NOON, NOON + 0.2, frozenset({"never_accepted"}), "fal")
    history.windows = [killed]
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}
    history.windows.append(Window("throttled", NOON, NOON + 1, frozenset({"rate_limited"}), "fal", refuses=True))
    assert check(history.evidence()) == []


def test_a_fault_long_ago_explains_nothing() -> None:
    history = clean()
    history.windows = [replace(one, began=NOON - 100, ended=NOON - 99) for one in history.windows]
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}


@pytest.mark.parametrize(
    ("provider", "endpoint", "kinds"),
    [
        ("replicate", "a/model", set()),
        ("replicate", "a/nother", {"wrong_ending"}),
        ("fal", "a/model", {"wrong_ending"}),
    ],
)
def test_an_earlier_failure_explains_an_open_breaker(provider: str, endpoint: str, kinds: set[str]) -> None:
    history = turned_away()
    another(history, "another", provider, NOON - 20, "attempt.ambiguous", endpoint=endpoint)
    assert kinds_of_the_job(history) == kinds


@pytest.mark.parametrize(
    ("earlier", "lost", "kinds"),
    [
        (1.5, 0.75, set()),
        (1.5, None, {"wrong_ending"}),
        (2.5, 0.75, {"wrong_ending"}),
    ],
    ids=["the probe was lost", "no probe", "closed before"],
)
def test_a_lost_probe_keeps_the_breaker_of_a_provider_open(earlier: float, lost: float | None, kinds: set[str]) -> None:
    """Both times are before the attempt, as shares of how long a breaker is open after one failure."""
    history = turned_away()
    at = NOON - earlier * BREAKER_SHUT_S
    another(history, "refused", "replicate", at, "attempt.failed", kind="unauthorized", accepted=False, message="no")
    if lost is not None:
        another(history, "lost", "replicate", NOON - lost * BREAKER_SHUT_S, "attempt.ambiguous", endpoint="a/nother")
    assert kinds_of_the_job(history) == kinds


def turned_away() -> History:
    """The second attempt, at Replicate, is turned away by a circuit breaker."""
    history = clean()
    throttled(history, 429)
    history.bills = [one for one in history.bills if one.get("attempt_id") != SECOND]
    history.rewrite("attempt.submitting", endpoint="a/model")
    return history


def another(history: History, key: str, provider: str, at: float, event: str, **data: Any) -> None:
    """An event of the attempt of another job, of which nothing else is in the history."""
    job_id = job_id_for("default", key)
    attempt_id = attempt_id_for(job_id, 1)
    told = {"attempt_id": attempt_id, "version": 1, **data}
    when = datetime.fromtimestamp(at, UTC)
    history.events.append(Event("segue.attempts", 0, 90, event, key, job_id, when, told))
    history.rows["ordered"].append({"attempt_id": attempt_id, "job_id": job_id, "provider": provider, "live": False})


def kinds_of_the_job(history: History) -> set[str]:
    """The violations of the job that the history is about."""
    return {one.kind for one in check(history.evidence()) if one.subject.startswith(JOB)}


def test_a_lost_answer_explains_what_stays_open_at_the_deadline_and_not_before() -> None:
    history = clean()
    ambiguous_at_the_deadline(history)
    history.windows.append(Window("lost", NOON, NOON + 2, frozenset({"ambiguous_submission"}), "replicate"))
    assert check(history.evidence()) == []
    history.rewrite("job.requested", deadline_at=datetime.fromtimestamp(NOON + 100, UTC).isoformat())
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}


def test_a_lost_output_that_a_fault_explains_may_be_paid_for_again() -> None:
    history = clean()
    made_and_lost(history)
    history.windows.append(Window("files gone", NOON, NOON + 2, frozenset({"output_lost"}), "fal"))
    assert check(history.evidence()) == []


def test_a_request_that_was_too_late_and_was_repeated_may_end_twice() -> None:
    history = clean()
    history.events = [replace(one, data={**one.data, "version": one.data["version"] + 1})
                      if one.topic == "segue.jobs" else one for one in history.events]  # fmt: skip
    history.event(0.05, "job.failed", version=1, status="failed", kind="expired", message="too late", attempts=[])
    for table in ("jobs", "decided"):
        history.change(table, JOB, version=5)
    history.answers.insert(2, ClientAnswer(NOON + 0.15, TOKEN, "page", 200, JOB, {"status": "failed"}))
    assert check(history.evidence()) == []
    history.answers = [one for one in history.answers if one.status is not None]
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}


def test_a_request_that_came_too_late_may_expire() -> None:
    history = clean()
    expired(history, at=0.05)
    assert check(history.evidence()) == []


def test_a_request_that_is_told_again_with_other_times_is_no_contradiction() -> None:
    history = clean()
    twin = next(one for one in history.events if one.type == "job.requested")
    history.events.append(replace(twin, offset=99, data={**twin.data, "accept_by": "later"}))
    assert check(history.evidence()) == []


def test_clients_may_give_up_in_an_outage_that_is_longer_than_they_try() -> None:
    history = clean()
    refused(history, 503)
    assert check(history.evidence(), clients_give_up=True) == []


def test_a_process_may_end_while_a_fault_lasts_on_which_it_depends() -> None:
    history = clean()
    history.exits.append(ProcessEnd(NOON + 30, "fal-adapter-1", "fal-adapter", 70))
    history.windows.append(Window("no Kafka", NOON, NOON + 10, ends=frozenset({"fal-adapter"})))
    assert check(history.evidence()) == []
    history.exits.append(ProcessEnd(NOON + 30, "log-sink-1", "log-sink", 70))
    assert {one.kind for one in check(history.evidence())} == {"unexpected_end"}
