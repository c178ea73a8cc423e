"""The effect of a client's request to cancel a job, and its consequences for the job and its cost. Pure."""

from __future__ import annotations

from gateway.queries.model import Attempt, Job
from gateway.views.schemas import CancelAnswer


def cancel_answer_if_requested(job: Job) -> CancelAnswer | None:
    """The effect of a cancellation; None if none was requested."""
    return cancel_answer(job) if job.cancel_asked_at is not None or job.cancel_effect is not None else None


def cancel_answer(job: Job) -> CancelAnswer:
    """The effect of a requested cancellation."""
    if not job.final:
        return CancelAnswer(effect="pending", message=_pending(job))
    if job.status != "cancelled" or job.cancel_effect is None:
        return CancelAnswer(effect="too_late", message=_too_late(job))
    return CancelAnswer(effect=job.cancel_effect, message=_stopped(job))


def _pending(job: Job) -> str:
    last = job.attempts[-1] if job.attempts else None
    if last is not None and last.state == "ambiguous":
        return (
            f"The answer to the submit at {last.provider} was lost: the job ends once it is known whether there is a "
            "run, or at its deadline, and a run that is found is stopped. "
            "Whether it costs anything is not known yet."
        )
    if last is not None and last.state == "collecting":
        return f"{last.provider} has finished the run and bills it; its files are being fetched, and will be kept."
    if last is not None and (last.submitted_at is not None or last.state == "running"):
        return f"{last.provider} has been asked to stop the run, and has not confirmed it yet; it may be billed."
    return "The job is being stopped; how far it had come is not known yet."


def _too_late(job: Job) -> str:
    if job.status == "succeeded":
        return f"The job succeeded before it could be stopped; its files are kept. {_cost(job)}"
    if job.status == "failed":
        return f"The job had already failed ({job.error_kind}); nothing was left to stop. {_cost(job)}"
    return f"The job had already been cancelled. {_cost(job)}"


def _stopped(job: Job) -> str:
    last = job.attempts[-1] if job.attempts else None
    where = last.provider if last else "any provider"
    match job.cancel_effect:
        case "never_sent":
            again = "" if len(job.attempts) < 2 else " again"
            return f"Stopped before it was sent{again} to {where}. {_cost(job)}"
        case "cancelled_free":
            return f"{where} dropped the run before it began. {_cost(job)}"
    return f"Stopped. {_maybe_billed(last)} {_cost(job)}"


def _maybe_billed(last: Attempt | None) -> str:
    if last is None:
        return "An earlier attempt may be billed."
    if last.kind == "ambiguous_submission":
        return f"Whether {last.provider} ever accepted the submit is not known; look for a run there."
    if last.state == "failed":
        return f"The run at {last.provider} had been accepted, and failed before it could be stopped."
    if last.state == "running" and last.submitted_at is None:  # Its adapter has not reported how far it had come.
        return f"{last.provider} may have begun the run, and may bill it."
    return f"The run at {last.provider} was under way, and may be billed for what it had done."


def _cost(job: Job) -> str:
    cost = job.total_cost_usd
    if cost is None:
        return "Its total cost is not known."
    return f"It costs ${cost:.4f}".rstrip("0").rstrip(".") + " in all." if cost else "It costs nothing."
