"""Attempts as operators see them, in particular ambiguous ones. Pure."""

from __future__ import annotations

import re
from typing import Final

from pydantic import TypeAdapter, ValidationError

from contracts.catalogue import Catalogue
from contracts.generation import GenerationInput
from contracts.providers.registry import PROVIDERS
from contracts.text import replaced
from gateway.queries.model import FINAL, AttemptOfJob
from gateway.views.attempt_schemas import OperatorsAttempt

EXCERPT_CHARS: Final = 200
_INPUT: Final[TypeAdapter[GenerationInput]] = TypeAdapter(GenerationInput)


def operators_attempt(found: AttemptOfJob, catalogue: Catalogue) -> OperatorsAttempt:
    """The response model of an attempt."""
    attempt = found.attempt
    prompt = found.input.get("prompt")
    excerpt = _excerpt(prompt) if isinstance(prompt, str) else None
    return OperatorsAttempt(
        id=found.attempt_id,
        job_id=found.job_id,
        track_id=found.track_id,
        attempt=attempt.n,
        provider=attempt.provider,
        model=found.model,
        endpoint=attempt.endpoint,
        state=attempt.state,
        ambiguous=found.ambiguous,
        late=attempt.late,
        provider_ref=attempt.provider_ref,
        error_kind=attempt.kind,
        error_code=attempt.code,
        http_status=attempt.http_status,
        message=attempt.message,
        cost_usd=attempt.cost_usd,
        price_usd=_price(found, catalogue),
        prompt=excerpt,
        look_for=_look_for(found, excerpt) if found.ambiguous else None,
        submitting_at=attempt.submitting_at,
        submitted_at=attempt.submitted_at,
        finished_at=attempt.finished_at,
        resolve_by=attempt.resolve_by,
        job_status=found.job_status,
        job_deadline_at=found.deadline_at,
    )


def what_follows(found: AttemptOfJob, provider_ref: str | None) -> str:
    """The consequences of an operator's resolution for the job and its cost; `provider_ref` is None if not accepted."""
    provider = found.attempt.provider
    if found.attempt.state == "ambiguous":
        if provider_ref is None:
            return f"{provider} billed nothing for this attempt; the job goes on, and may be paid for elsewhere."
        return f"The job goes on with the run {provider_ref} at {provider}, which is billed as any other."
    job = f"is {found.job_status}, and stays so" if found.job_status in FINAL else "has gone on elsewhere"
    if provider_ref is None:
        return f"The job {job}; {provider} billed nothing for this attempt."
    return f"The job {job}; the output of the run {provider_ref}, which {provider} bills, is kept with this attempt."


def _look_for(found: AttemptOfJob, excerpt: str | None) -> str:
    attempt = found.attempt
    when = (
        ""
        if attempt.submitting_at is None
        else f", made at {attempt.submitting_at:%Y-%m-%d %H:%M:%S} UTC or just after"
    )
    prompt = "" if excerpt is None else f", with the prompt “{excerpt}”"
    return f"a run of {attempt.endpoint}{when}{prompt}. {PROVIDERS[attempt.provider].listing}."


def _excerpt(prompt: str) -> str:
    text = replaced(re.sub(r"\s", " ", prompt[: EXCERPT_CHARS + 1]))
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "…"


def _price(found: AttemptOfJob, catalogue: Catalogue) -> float | None:
    """The expected cost by today's catalogue: the events of an attempt lack the price at the time of its order."""
    try:
        input_ = _INPUT.validate_python(found.input)
    except ValidationError:
        return None
    target = (found.attempt.provider, found.attempt.endpoint)
    routes = (route for model in catalogue.models.values() for route in model.routes)
    route = next((each for each in routes if (each.provider, each.endpoint) == target), None)
    return None if route is None else route.expected_cost_usd(input_)
