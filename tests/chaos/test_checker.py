"""The checker finds each kind of violation: each is inserted once into a correct history."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.checks.checker import check
from chaos.evidence.model import ClientAnswer, DeadLetter, Event, Evidence, Tables, UnexpectedEnd, Window
from contracts.ids import attempt_id_for, job_id_for

NOON = 1_800_000_000.0
TOKEN = "t-0001"
JOB = job_id_for("default", TOKEN)
FIRST, SECOND = attempt_id_for(JOB, 1), attempt_id_for(JOB, 2)
FILE = {"name": "audio.wav", "sha256": "ab" * 32, "size_bytes": 12}
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
        return Evidence(self.answers, self.bills, self.events, tables, ends, self.dead, self.windows, self.ended)

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


def test_a_throttled_attempt_that_ends_unavailable_is_no_violation() -> None:
    history = clean()
    throttled(history, 429)
    assert check(history.evidence()) == []


def test_providers_unavailable_until_the_deadline_explain_an_expired_job() -> None:
    history = clean()
    throttled(history, 429)
    history.bills = []
    history.rewrite("attempt.failed", kind="unavailable")
    history.rewrite("job.failed", kind="expired")
    history.rewrite("job.requested", deadline_at=datetime.fromtimestamp(NOON + 100, UTC).isoformat())
    history.windows.append(Window("back too early", NOON - 1, NOON + 99, frozenset({"unreachable"})))
    assert {one.kind for one in check(history.evidence())} == {"wrong_ending"}
    history.windows.append(Window("away", NOON - 1, NOON + 101, frozenset({"unreachable"})))
    assert check(history.evidence()) == []


def test_an_event_published_twice_counts_once() -> None:
    history = clean()
    history.events += [replace(one, offset=one.offset + 100) for one in history.events]
    assert check(history.evidence()) == []


def test_expected_dead_letters_are_no_violation() -> None:
    history = clean()
    history.dead.append(DeadLetter("log-sink", "segue.jobs", JOB, "poison"))
    assert check(history.evidence(), dead_letters=True) == []
