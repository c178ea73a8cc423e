"""Checks that nothing was paid twice, and that nothing could have been: the most important guarantee. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import combinations, pairwise
from typing import Any, Final

from chaos.evidence.by_job import AttemptEvidence, JobEvidence

CLOCK_S: Final = 0.05
"""Tolerance for comparing times of two processes on one machine, in seconds, including the delay of writing them."""
NOT_BILLED: Final = frozenset({"never_accepted", "expired", "unavailable", "unreachable", "rate_limited"})
"""Failure kinds that claim that the provider never accepted the attempt, unless its event says otherwise."""

UNAVAILABLE_OUTPUT: Final = frozenset({"output_lost", "output_unusable", "run_timeout", "start_timeout"})
"""Failure kinds by which the output of a run that was paid for could not be obtained."""

Endings = Mapping[str, Mapping[str, Any]]
Excused = Callable[[AttemptEvidence], bool]
"""Whether a fault explains how an attempt failed."""


def paid_twice(job: JobEvidence, endings: Endings, excused: Excused) -> Iterator[tuple[str, str]]:
    """What was paid for twice, or submitted again although it could be, as pairs of subject and evidence."""
    attempts = job.in_order()
    for attempt in attempts:
        yield from ((attempt.attempt_id, what) for what in _repeated_posts(attempt))
    # All pairs, not neighbours alone: one between them may have been given up without a POST.
    for before, after in combinations(attempts, 2):
        yield from ((after.attempt_id, what) for what in _overlapping(before, after, endings, excused))
    made = [one.attempt_id for one in attempts if any(each.type == "attempt.succeeded" for each in one.events)]
    if len(made) > 1:
        yield job.job_id, f"more than one of its attempts succeeded: {made}"


def _repeated_posts(attempt: AttemptEvidence) -> Iterator[str]:
    if len(attempt.bills) > 1:
        yield f"accepted {len(attempt.bills)} times: {[bill['request_id'] for bill in attempt.bills]}"
    for earlier, later in pairwise(attempt.posts):
        if is_ambiguous(earlier):
            after_s = later["at"] - earlier["at"]
            yield f"POSTed again {after_s:.1f} s after an answer that left it open: {_said(earlier)}"
    if attempt.bills and (what := _claimed_unbilled(attempt)) is not None:
        yield f"{what}, and {attempt.provider} billed the run {attempt.bills[0]['request_id']}"


def _overlapping(before: AttemptEvidence, after: AttemptEvidence, endings: Endings, excused: Excused) -> Iterator[str]:
    """Why it was wrong to POST `after` at that time, given the state of `before`."""
    if not after.posts:
        return
    at = float(after.posts[0]["at"])
    if before.end is None or before.end.at.timestamp() > at + CLOCK_S:
        when = "nothing says how it ended" if before.end is None else f"it ended at {before.end.at:%X.%f}"
        yield f"POSTed at {_clock(at)} while {before.attempt_id} was live: {when}"
    for bill in before.bills:
        ending = endings.get(bill["request_id"])
        if ending is None or (ending["at"] > at + CLOCK_S and ending["billed_usd"] > 0):
            how = "still runs" if ending is None else f"ended at {_clock(ending['at'])} for {ending['billed_usd']} USD"
            yield f"POSTed at {_clock(at)} although the run {bill['request_id']} of {before.attempt_id} {how}"
        elif (
            ending["event"] == "finished"
            and ending["outcome"] == "succeeded"
            and not (_output_unavailable(before) and excused(before))
        ):
            yield f"POSTed although {before.attempt_id} had been made and paid for"


def is_ambiguous(post: Mapping[str, Any]) -> bool:
    """Whether the sender cannot know from the answer if the provider accepted the POST."""
    status = post["status"]
    return status is None or status >= 500 or status < 300


def _claimed_unbilled(attempt: AttemptEvidence) -> str | None:
    """The failure kind by which the attempt claims that it was not accepted, as text; None if it does not."""
    last = attempt.last
    if last is None or last.type != "attempt.failed":
        return None
    if last.data["accepted"] or last.data["kind"] not in NOT_BILLED:
        return None
    return f"it says {last.data['kind']}"


def _output_unavailable(attempt: AttemptEvidence) -> bool:
    """Whether a paid output could not be obtained, which is the only reason to pay for another."""
    return attempt.end is not None and attempt.end.data.get("kind") in UNAVAILABLE_OUTPUT


def _said(post: Mapping[str, Any]) -> str:
    return "none came" if post["status"] is None else f"HTTP {post['status']}"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%X.%f}"
