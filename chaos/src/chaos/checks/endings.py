"""Checks that all sources agree on how each job ended, and that the injected faults explain each failure. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from chaos.checks.excuses import Faults, is_unsent, may_expire, unexplained
from chaos.evidence.by_job import FINAL, AttemptEvidence, JobEvidence
from contracts.failures import FAILURES, FailureKind

STATUSES: Final = {"job.succeeded": "succeeded", "job.failed": "failed", "job.cancelled": "cancelled"}


def wrong_endings(job: JobEvidence, faults: Faults) -> Iterator[tuple[str, str]]:
    """Problems with how a job and its attempts ended, as pairs of subject and evidence."""
    for one in job.contradicted:
        yield one.attempt_id or job.job_id, f"{one.type} was published twice under one id, with different contents"
    for attempt in job.in_order():
        yield from ((attempt.attempt_id, what) for what in _attempt(attempt))
        if (what := unexplained(job, attempt, faults)) is not None:
            yield attempt.attempt_id, what
    if not job.ends:
        return
    yield from ((job.job_id, what) for what in _changed_end(job))
    yield from ((job.job_id, what) for what in _told_otherwise(job))
    yield from ((job.job_id, what) for what in _disagreement(job))
    match STATUSES[job.ends[-1].type]:
        case "succeeded":
            yield from ((job.job_id, what) for what in _success(job))
        case "failed":
            yield from ((job.job_id, what) for what in _failure(job, faults))
        case "cancelled":
            yield from ((job.job_id, what) for what in _cancelled(job, faults))


def _changed_end(job: JobEvidence) -> Iterator[str]:
    """Problems with a changed end. Only one change is allowed: expired before a submit, then accepted at a repeat."""
    ends = [STATUSES[one.type] for one in job.ends]
    for earlier, later in pairwise(job.ends):
        between = job.events[job.events.index(earlier) + 1 : job.events.index(later)]
        if not is_unsent(earlier.data) or not any(one.type == "job.accepted" for one in between):
            yield f"it ended more than once: {ends}"
            return
    if len(ends) > 1 and sum(one.call in ("post", "repeat", "conflict") for one in job.answers) < 2:
        yield f"it ended more than once, and nobody had repeated the request: {ends}"


def _told_otherwise(job: JobEvidence) -> Iterator[str]:
    """What clients were told about the end of a job that its events do not say."""
    ends = [STATUSES[one.type] for one in job.ends]
    statuses = [str(one.body.get("status")) for one in job.answers if one.call in ("page", "job") and one.status == 200]
    cancels = [str(one.body.get("status")) for one in job.answers if one.call == "cancel" and one.status in (200, 202)]
    if job.accepted and not any(one.call == "job" and one.status == 200 for one in job.answers):
        yield "at the end its client could not look it up"
    if others := sorted((set(statuses + cancels) & FINAL) - set(ends)):
        yield f"clients received the states {others}, and its events say {ends}"
    final = [status for status in statuses if status in FINAL]
    if final and final[-1] != ends[-1]:
        yield f"the last event says {ends[-1]}, and the last client received {final[-1]}"
    if statuses and statuses[-1] not in FINAL:
        yield f"the last answer to a client was {statuses[-1]}"


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


def _failure(job: JobEvidence, faults: Faults) -> Iterator[str]:
    end = job.ends[-1]
    kind = end.data["kind"]
    live = [one.attempt_id for one in job.in_order() if one.end is None]
    if live:
        yield f"failed with {kind} while {live} had not ended"
    if kind == "expired" and not may_expire(job, faults):
        yield f"expired although its deadline was far and nothing held it up: {end.data['message']}"
    if kind not in ("expired", "no_route") and not any(
        one.end and one.end.data.get("kind") == kind for one in job.in_order()
    ):
        yield f"failed with {kind}, which none of its attempts did"
    if kind == "no_route" and not job.attempts:
        yield f"no way was found for it: {end.data['message']}"


def _cancelled(job: JobEvidence, faults: Faults) -> Iterator[str]:
    if not any(one.call == "cancel" for one in job.answers):
        yield "cancelled, and no client asked for it"
    ended = job.ends[-1].at
    for made in (one.end for one in job.in_order() if one.end is not None and one.end.type == "attempt.succeeded"):
        # A success that a fault holds back may come after the end of the job.
        if made.at < ended and not faults.during(made.at.timestamp(), ended.timestamp()):
            yield f"cancelled, although {made.attempt_id} had succeeded"


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
