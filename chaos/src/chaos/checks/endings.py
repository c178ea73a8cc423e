"""Checks that all sources agree on how each job ended, and that the injected faults explain each failure. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from chaos.evidence.by_job import FINAL, AttemptEvidence, JobEvidence
from chaos.evidence.model import ClientAnswer, Window
from chaos.load.faults import explained
from contracts.failures import FAILURES, FailureKind

ANSWERS: Final[dict[str, frozenset[int | None]]] = {
    "post": frozenset({202, 503, None}),
    "repeat": frozenset({202, 503, None}),
    # If the database was down at the first request, only the orchestrator can detect that the second one differs.
    "conflict": frozenset({202, 422, 503, None}),
    "cancel": frozenset({200, 202, 409, 503, None}),
    "page": frozenset({200, 503, None}),
    "job": frozenset({200, 404, 503, None}),
    "artifact": frozenset({200, 503, None}),
}
"""The allowed answers to each call; a 404 for a job counts as lost and is checked there."""
AFTERMATH_S: Final = 30.0
"""How long after a fault an attempt may still fail because of it, in seconds: the time to resolve a lost answer."""
THROTTLED: Final = 429
NEVER_SENT: Final = frozenset({"unavailable", "unreachable", "expired"})
SHORT_DEADLINE_S: Final = 100.0
"""A deadline shorter than this, in seconds, may pass because of faults; the default one may not."""
STATUSES: Final = {"job.succeeded": "succeeded", "job.failed": "failed", "job.cancelled": "cancelled"}


def wrong_endings(job: JobEvidence, windows: Sequence[Window]) -> Iterator[tuple[str, str]]:
    """Problems with how a job and its attempts ended, as pairs of subject and evidence."""
    for answer in job.answers:
        if answer.status not in ANSWERS[answer.call]:
            yield job.job_id, f"{answer.call} was answered {answer.status}: {_brief(answer)}"
    for attempt in job.in_order():
        yield from ((attempt.attempt_id, what) for what in _attempt(attempt))
    if not job.ends:
        return
    yield from ((job.job_id, what) for what in _changed_end(job))
    yield from ((job.job_id, what) for what in _disagreement(job))
    match STATUSES[job.ends[-1].type]:
        case "succeeded":
            yield from ((job.job_id, what) for what in _success(job))
        case "failed":
            yield from ((job.job_id, what) for what in _failure(job, windows))
        case "cancelled" if not any(one.call == "cancel" for one in job.answers):
            yield job.job_id, "cancelled, and no client asked for it"


def _changed_end(job: JobEvidence) -> Iterator[str]:
    """Problems with a changed end. Only one change is allowed: expired before a submit, then accepted at a repeat."""
    ends = [STATUSES[one.type] for one in job.ends]
    revived = [one for one in job.ends[:-1] if not _unsent(one.data)]
    if revived:
        yield f"it ended more than once: {ends}"
    statuses = [str(one.body["status"]) for one in job.answers if one.call in ("page", "job") and one.status == 200]
    if job.accepted and not any(one.call == "job" and one.status == 200 for one in job.answers):
        yield "at the end its client could not look it up"
    final = [status for status in statuses if status in FINAL]
    if len(set(final)) > 1 and revived:
        yield f"clients received different final states: {final}"
    if final and final[-1] != ends[-1]:
        yield f"the last event says {ends[-1]}, and the last client received {final[-1]}"
    if statuses and statuses[-1] not in FINAL:
        yield f"the last answer to a client was {statuses[-1]}"


def _unsent(end: Any) -> bool:
    return end.get("kind") == "expired" and not end.get("attempts")


def _disagreement(job: JobEvidence) -> Iterator[str]:
    status = STATUSES[job.ends[-1].type]
    if job.row is not None and job.row["status"] != status:
        yield f"the last event says {status}, the read model {job.row['status']}"
    if job.decided is not None and job.decided["state"] != status:
        yield f"the last event says {status}, the orchestrator {job.decided['state']}"


def _success(job: JobEvidence) -> Iterator[str]:
    end = job.ends[-1].data
    made = job.attempts.get(end["attempt_id"])
    if made is None or made.end is None or made.end.type != "attempt.succeeded":
        yield f"it succeeded by {end['attempt_id']}, which did not"
    elif not made.bills:
        yield f"it succeeded by {end['attempt_id']}, which nobody was paid for"
    said = {one["name"]: (one["sha256"], one["size_bytes"]) for one in end["artifacts"]}
    rows = {
        one["name"]: (one["sha256"], one["size_bytes"])
        for one in job.artifacts
        if one["attempt_id"] == end["attempt_id"]
    }
    got = {
        one.body["name"]: (one.body["sha256"], one.body["size_bytes"])
        for one in job.answers
        if one.call == "artifact" and one.status == 200
    }
    if not said:
        yield "it succeeded without an artifact"
    if rows != said:
        yield f"its event names the artifacts {said}, the read model {rows}"
    if got != said:
        yield f"its event names the artifacts {said}, and its client got {got}"


def _failure(job: JobEvidence, windows: Sequence[Window]) -> Iterator[str]:
    end = job.ends[-1]
    kind = end.data["kind"]
    words = tuple(job.spec.get("faults", ()))
    for attempt in job.in_order():
        if (what := _unexplained(job, attempt, words, windows)) is not None:
            yield f"failed with {kind}: {what}"
    live = [one.attempt_id for one in job.in_order() if one.end is None]
    if live:
        yield f"failed with {kind} while {live} had not ended"
    if kind == "expired" and not _may_expire(job, words, windows):
        yield f"expired although its deadline was far and nothing held it up: {end.data['message']}"
    if kind not in ("expired", "no_route") and not any(
        one.end and one.end.data.get("kind") == kind for one in job.in_order()
    ):
        yield f"failed with {kind}, which none of its attempts did"
    if kind == "no_route" and not job.attempts:
        yield f"no way was found for it: {end.data['message']}"


def _may_expire(job: JobEvidence, words: Sequence[str], windows: Sequence[Window]) -> bool:
    if _unsent(job.ends[-1].data) and any(one.call == "post" and one.status != 202 for one in job.answers):
        return True  # The request reached the log too late, and no client received a 202 before.
    if _unreachable_throughout(job, windows):
        return True
    spec = job.spec.get("fields", {})
    deadline_s = spec.get("deadline_s")
    return bool(deadline_s is not None and deadline_s < SHORT_DEADLINE_S and (words or windows or deadline_s < 15))


def _unreachable_throughout(job: JobEvidence, windows: Sequence[Window]) -> bool:
    """Whether its providers were unreachable from its request to its deadline, and none received a POST."""
    kinds = {one.end.data.get("kind") for one in job.attempts.values() if one.end is not None}
    if job.deadline_at is None or not job.requested or not kinds <= NEVER_SENT:
        return False
    if any(one.posts for one in job.attempts.values()):
        return False
    began, ended = min(one.at for one in job.requested).timestamp(), job.deadline_at.timestamp()
    away = [one for one in windows if FailureKind.UNREACHABLE in one.explains]
    return any(one.began <= began and ended <= one.ended for one in away)


def _unexplained(
    job: JobEvidence, attempt: AttemptEvidence, words: Sequence[str], windows: Sequence[Window]
) -> str | None:
    """Why an attempt's failure is not explained by the faults; None if it is, or if there was no failure."""
    end = attempt.end
    if end is None or end.type != "attempt.failed":
        return None
    kind = FailureKind(end.data["kind"])
    began = min([one.at.timestamp() for one in attempt.events])
    ended = end.at.timestamp()
    then = [one for one in windows if one.began < ended and one.ended + AFTERMATH_S > began]
    if kind is FailureKind.UNAVAILABLE and all(post["status"] == THROTTLED for post in attempt.posts):
        return None  # Nothing was sent, or it was throttled and not sent again: nothing was paid, and the job goes on.
    if kind is FailureKind.UNREACHABLE and not attempt.posts:
        return None  # Confirmed by the bills: there was no POST.
    if kind is FailureKind.AMBIGUOUS_SUBMISSION and job.deadline_at is not None and end.at >= job.deadline_at:
        return None  # No time was left to resolve it; it stays ambiguous, and nothing is paid again.
    if kind is FailureKind.EXPIRED:
        return None  # The end of the job itself is checked against its deadline.
    if explained(kind, attempt.provider, words, then):
        return None
    blamed = ", ".join([*words, *(one.fault for one in then)]) or "nothing"
    return f"{attempt.attempt_id} at {attempt.provider} ended as {kind} ({end.data['message']!r}); wrong was: {blamed}"


def _attempt(attempt: AttemptEvidence) -> Iterator[str]:
    last = attempt.last
    if last is None:
        return
    state = last.type.removeprefix("attempt.")
    for name, said in (("read model", attempt.row), ("ledger", attempt.ledger)):
        now = said["state"] if said is not None else state
        if now != state:
            yield f"its last event says {state}, the {name} {now}"
    if last.type == "attempt.failed" and FailureKind(last.data["kind"]) not in FAILURES:
        yield f"it failed with {last.data['kind']}, which is no kind"
    if last.type == "attempt.failed" and last.data["accepted"] and not attempt.bills:
        yield "it says that it was accepted, and the provider has no bill of it"


def _brief(answer: ClientAnswer) -> str:
    return str(dict(answer.body))[:300]
