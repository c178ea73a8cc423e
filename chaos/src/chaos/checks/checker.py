"""Checks Segue's guarantees against the clients' answers, the bills, the events and the tables. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from chaos.checks.answers import mixed_up, never_accepted, wrong_answers
from chaos.checks.endings import wrong_endings
from chaos.checks.excuses import Faults, end_expected, faults_of, unexplained
from chaos.checks.money import paid_twice
from chaos.evidence.by_job import FINAL, AttemptEvidence, EvidenceByJob, JobEvidence, group_by_job, token_in
from chaos.evidence.model import Event, Evidence

Kind = Literal["lost", "paid_twice", "stuck", "phantom", "wrong_ending", "gap", "dead_letter", "unexpected_end"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Violation:
    """One violated guarantee, with the evidence."""

    kind: Kind
    subject: str
    """The id of the job or attempt, or what else it concerns."""
    evidence: str
    token: str | None = None


def check(evidence: Evidence, *, clients_give_up: bool = False) -> list[Violation]:
    """All violations in the evidence.

    Clients that were never accepted count unless `clients_give_up` says that the outage was longer than they try.
    """
    by_job = group_by_job(evidence)
    faults = faults_of(evidence.windows, by_job.jobs.values())
    found = [*_run_wide(evidence, by_job)]
    lost = () if clients_give_up else never_accepted(evidence.answers)
    found += [Violation("lost", token, what, token) for token, what in lost]
    stored = {row["event_id"] for row in evidence.tables.log}
    for job in by_job.jobs.values():
        problems: list[tuple[Kind, str, str]] = [
            *(("lost", job.job_id, what) for what in _lost(job, stored)),
            *(("paid_twice", subject, what) for subject, what in _paid_twice(job, by_job, faults)),
            *(("stuck", subject, what) for subject, what in _stuck(job)),
            *(("phantom", subject, what) for subject, what in (*_phantoms(job), *mixed_up(job))),
            *(("wrong_ending", subject, what) for subject, what in wrong_endings(job, faults)),
            *(("gap", subject, what) for subject, what in _gaps(job)),
        ]
        found += [Violation(kind, subject, what, job.token) for kind, subject, what in problems]
    return found


def _paid_twice(job: JobEvidence, by_job: EvidenceByJob, faults: Faults) -> Iterator[tuple[str, str]]:
    return paid_twice(job, by_job.endings, lambda attempt: unexplained(job, attempt, faults) is None)


def _run_wide(evidence: Evidence, by_job: EvidenceByJob) -> Iterator[Violation]:
    """Violations that do not belong to a single job."""
    for what in evidence.tables.unfinished:
        yield Violation("stuck", "the tables", what)
    for bill in by_job.unattributed:
        yield Violation("phantom", str(bill["request_id"]), "a POST that names no attempt", token_in(bill["input"]))
    for token, ids in by_job.tokens.items():
        if len(ids) > 1:
            yield Violation("phantom", token, f"one key became {len(ids)} jobs: {sorted(ids)}", token)
    requested = {one.token for one in evidence.answers}
    for job in by_job.jobs.values():
        if job.token not in requested and not job.answers:
            yield Violation("phantom", job.job_id, "a job that nobody asked for", job.token)
    for subject, what in wrong_answers(evidence.answers):
        yield Violation("wrong_ending", subject, what)
    yield from _log_sink_gaps(evidence)
    yield from _ends_of_processes(evidence)
    for letter in evidence.dead_letters:
        yield Violation(
            "dead_letter", letter.key, f"{letter.service} could not process a record of {letter.topic}: {letter.error}"
        )


def _ends_of_processes(evidence: Evidence) -> Iterator[Violation]:
    for end in evidence.unexpected_ends:
        # A supervisor restarts it, so that no job shows it.
        yield Violation("unexpected_end", end.replica, f"it ended by itself: {end.error}")
    for ended in evidence.process_ends:
        if not end_expected(ended, evidence.windows):
            how = f"with the exit code {ended.code}" if ended.code >= 0 else f"by the signal {-ended.code}"
            yield Violation(
                "unexpected_end", ended.replica, f"it ended {how} at {ended.at:.1f}, and no fault explains it"
            )


def _log_sink_gaps(evidence: Evidence) -> Iterator[Violation]:
    for place, end in evidence.ends.items():
        if evidence.tables.next_offsets.get(place, 0) != end:
            read = evidence.tables.next_offsets.get(place, 0)
            yield Violation("gap", f"{place[0]}/{place[1]}", f"the log-sink stands at {read} of {end}")
    stored = Counter(row["event_id"] for row in evidence.tables.log)
    for event_id in (one for one, times in stored.items() if times > 1):
        yield Violation("gap", event_id, f"the log-sink has stored this event {stored[event_id]} times")


def _lost(job: JobEvidence, stored: set[str]) -> Iterator[str]:
    if job.accepted:
        if not job.requested:
            yield "a client received a 202, and segue.requests does not have it"
        if not job.ends:
            yield "a client received a 202, and no event says how it ended"
        if job.row is None:
            yield "a client received a 202, and the read model has no row of it"
        if job.decided is None:
            yield "a client received a 202, and the orchestrator has no row of it"
    for answer in job.answers:
        if answer.status == 404:
            yield f"{answer.call} of a job that was accepted was answered 404"
    events = [*job.requested, *job.events, *(one for attempt in job.attempts.values() for one in attempt.events)]
    missing = sorted({one.type for one in events if one.event_id not in stored})
    if missing:
        yield f"the log-sink has not stored: {', '.join(missing)}"
    yield from (what for attempt in job.in_order() for what in _lost_attempt(attempt))


def _lost_attempt(attempt: AttemptEvidence) -> Iterator[str]:
    if attempt.ordered is not None and attempt.ledger is None:
        yield f"{attempt.attempt_id} was ordered, and no ledger has it"
    if attempt.ledger is not None and attempt.row is None:
        yield f"{attempt.attempt_id} is in a ledger, and the read model has no row of it"


def _stuck(job: JobEvidence) -> Iterator[tuple[str, str]]:
    if job.row is not None and job.row["status"] not in FINAL:
        yield job.job_id, f"the read model says that it is {job.row['status']}"
    if job.decided is not None and job.decided["state"] not in FINAL:
        yield job.job_id, f"the orchestrator has it as {job.decided['state']}"
    for attempt in job.in_order():
        if attempt.ledger is not None and attempt.ledger["state"] not in FINAL:
            yield attempt.attempt_id, f"the ledger has it as {attempt.ledger['state']}"
        if attempt.ordered is not None and attempt.ordered["live"]:
            yield attempt.attempt_id, "the orchestrator takes it for live"


def _phantoms(job: JobEvidence) -> Iterator[tuple[str, str]]:
    if not job.requested and (job.row or job.decided):
        yield job.job_id, "a job without a request"
    for attempt in job.in_order():
        if attempt.ordered is None:
            yield attempt.attempt_id, "an attempt that the orchestrator did not order"
        yield from ((attempt.attempt_id, what) for what in _unmatched_bills(attempt))
    for artifact in job.artifacts:
        made = job.attempts.get(artifact["attempt_id"])
        if made is None or made.last is None or made.last.type != "attempt.succeeded":
            yield artifact["attempt_id"], f"the artifact {artifact['name']} of an attempt that did not succeed"


def _unmatched_bills(attempt: AttemptEvidence) -> Iterator[str]:
    """Bills for runs that their attempt does not know, and known runs without a bill."""
    refs = {bill["request_id"] for bill in attempt.bills}
    known = attempt.ledger["provider_ref"] if attempt.ledger is not None else None
    held = attempt.last is not None and attempt.last.data.get("kind") == "ambiguous_submission"
    for ref in sorted(refs - {known}) if not held else ():
        yield f"a bill for the run {ref}, while its attempt knows {known or 'of none'}"
    if known is not None and known not in refs:
        yield f"it claims the run {known}, which its provider has not accepted for it"


def _gaps(job: JobEvidence) -> Iterator[tuple[str, str]]:
    numbers = [attempt.n for attempt in job.in_order() if attempt.row is not None]
    if numbers != list(range(1, len(numbers) + 1)):
        yield job.job_id, f"its attempts are numbered {numbers}"
    if (what := _version_problem([one.data["version"] for one in job.events], job.row)) is not None:
        yield job.job_id, what
    if (what := _beyond("orchestrator", job.decided, job.events)) is not None:
        yield job.job_id, what
    for attempt in job.in_order():
        if (what := _beyond("ledger", attempt.ledger, attempt.events)) is not None:
            yield attempt.attempt_id, what
        if (what := _version_problem([one.data["version"] for one in attempt.events], attempt.row)) is not None:
            yield attempt.attempt_id, what


def _beyond(where: str, row: Mapping[str, Any] | None, events: Sequence[Event]) -> str | None:
    """What a service has decided and never published; None if there is nothing."""
    last = max((one.data["version"] for one in events), default=0)
    if row is None or row["version"] <= last:
        return None
    return f"the {where} has version {row['version']}, and its last event {last}"


def _version_problem(versions: list[int], row: object) -> str | None:
    """A problem with the versions of one subject's events or of its row; None if there is none."""
    counted = Counter(versions)
    if sorted(counted) != list(range(1, len(counted) + 1)):
        return f"its events have the versions {sorted(counted)}"
    if twice := sorted(version for version, times in counted.items() if times > 1):
        return f"different events have the same version {twice}"
    stored = row["version"] if isinstance(row, dict) else None
    if stored is not None and versions and stored != max(versions):
        return f"the read model has version {stored} of {max(versions)}"
    return None
