"""Checks what clients were answered, and that nothing of one client is taken for another's. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from chaos.evidence.by_job import AttemptEvidence, JobEvidence, token_in
from chaos.evidence.model import ClientAnswer

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
ASKING: Final = ("post", "repeat", "conflict")


def wrong_answers(answers: Sequence[ClientAnswer]) -> Iterator[tuple[str, str]]:
    """Answers that no client may receive, as pairs of subject and evidence. They may name a job or none."""
    for one in answers:
        subject = one.job_id or one.token or one.call
        if one.status not in ANSWERS[one.call]:
            yield subject, f"{one.call} was answered {one.status}: {str(dict(one.body))[:300]}"
        elif one.call in ASKING and one.status == 202 and one.job_id is None:
            yield subject, f"{one.call} was answered 202 without a job: {str(dict(one.body))[:300]}"


def never_accepted(answers: Sequence[ClientAnswer]) -> Iterator[tuple[str, str]]:
    """Clients whose request was never answered 202, as pairs of token and evidence."""
    received: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in answers:
        if one.call in ASKING:
            received[one.token]["no answer" if one.status is None else str(one.status)] += 1
    for token, statuses in received.items():
        if "202" not in statuses:
            yield token, f"its client never received a 202, but {dict(statuses)}"


def mixed_up(job: JobEvidence) -> Iterator[tuple[str, str]]:
    """What names this job or its runs and belongs to another one, as pairs of subject and evidence."""
    if job.token is not None:
        for token in sorted({one.token for one in job.answers} - {job.token}):
            yield job.job_id, f"the client of {token} was answered with it, and {job.token} had asked for it"
    for attempt in job.in_order():
        yield from ((attempt.attempt_id, what) for what in _foreign_posts(job, attempt))
        yield from ((attempt.attempt_id, what) for what in _foreign_runs(attempt))


def _foreign_posts(job: JobEvidence, attempt: AttemptEvidence) -> Iterator[str]:
    for post in attempt.posts:
        token = token_in(post["input"])
        if job.token is not None and token is not None and token != job.token:
            yield f"it was POSTed with the input of {token}, and its job is {job.token}"
        if post["provider"] != attempt.provider:
            yield f"it was POSTed to {post['provider']}, and ordered at {attempt.provider}"


def _foreign_runs(attempt: AttemptEvidence) -> Iterator[str]:
    if attempt.ledger is None:
        return
    known = attempt.ledger["provider_ref"]
    said = {one.data["provider_ref"] for one in attempt.events if one.data.get("provider_ref")}
    if others := sorted(said - {known}):
        yield f"its events name the run {others}, and the ledger {known}"
    if attempt.row is not None and attempt.row["provider_ref"] != known:
        yield f"the read model names the run {attempt.row['provider_ref']}, and the ledger {known}"
