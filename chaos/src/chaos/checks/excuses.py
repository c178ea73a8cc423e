"""Whether the injected faults explain how an attempt, a job or a process ended. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.cluster.disturbances import ProcessEnd
from chaos.cluster.scale import BREAKER_SHUT_S
from chaos.evidence.by_job import AttemptEvidence, JobEvidence
from chaos.evidence.model import Event, Window
from chaos.load.faults import explained, refused
from contracts.failures import FAILURES, FailureKind

AFTERMATH_S: Final = 30.0
"""How long after a fault an attempt may still fail because of it, in seconds: the time to resolve a lost answer."""
ENDS_WITHIN_S: Final = 90.0
"""How long after a fault a process may still end because of it, in seconds: the watchdog's minute, and the drain."""
GONE_WRONG: Final = frozenset({70, 75})
"""The exit codes by which a process asks to be started again: it is unhealthy, or what it needs does not answer."""
THROTTLED: Final = 429
NEVER_SENT: Final = frozenset({"unavailable", "unreachable", "expired"})
SHORT_DEADLINE_S: Final = 100.0
"""A deadline shorter than this, in seconds, may pass because of faults; the default one may not."""
SHORTEST_DEADLINE_S: Final = 15.0
"""A deadline shorter than this, in seconds, may pass without a fault: the machine may be slow."""


@dataclass(frozen=True, slots=True)
class Strike:
    """A failure that a circuit breaker counts."""

    at: float
    """Unix time in seconds."""
    endpoint: str | None
    """The endpoint whose breaker counts it; None if it is that of the provider."""
    unclear: bool = False
    """Whether the provider may have accepted the attempt."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What was wrong, and when."""

    windows: Sequence[Window]
    strikes: Mapping[str, Sequence[Strike]]
    """By provider, the failures that its circuit breakers count."""

    def during(self, began: float, ended: float, lasting_s: float = AFTERMATH_S) -> list[Window]:
        """The faults that were active in a period, or had ended at most `lasting_s` seconds before."""
        return [one for one in self.windows if one.began < ended and one.ended + lasting_s > began]

    def struck(self, attempt: AttemptEvidence, began: float, ended: float) -> bool:
        """Whether a breaker may have turned an attempt away in a period because of an earlier failure."""
        strikes = [one for one in self.strikes.get(attempt.provider, ()) if began - BREAKER_SHUT_S < one.at <= ended]
        return any(one.endpoint in (None, attempt.endpoint) for one in strikes)


def faults_of(windows: Sequence[Window], jobs: Iterable[JobEvidence]) -> Faults:
    """The injected faults, and the failures that breakers count. Each of these is held against the faults itself."""
    strikes: defaultdict[str, list[Strike]] = defaultdict(list)
    for attempt in (one for job in jobs for one in job.attempts.values()):
        for one in attempt.events:
            if (scope := _breaker(one)) is not None:
                endpoint = attempt.endpoint if scope == "endpoint" else None
                unclear = one.type == "attempt.ambiguous"
                strikes[attempt.provider].append(Strike(one.at.timestamp(), endpoint, unclear))
    return Faults(windows, {provider: _with_lost_probes(each) for provider, each in strikes.items()})


def _with_lost_probes(strikes: Iterable[Strike]) -> list[Strike]:
    """The strikes; an unclear one of an endpoint soon after one of its provider counts for the provider.

    The attempt may have been the probe of the provider's breaker, which stays open until it knows how that ended.
    """
    told: list[Strike] = []
    shut_until = 0.0
    for one in sorted(strikes, key=lambda each: each.at):
        counted = Strike(one.at, None) if one.unclear and one.at < shut_until else one
        if counted.endpoint is None:
            shut_until = one.at + BREAKER_SHUT_S
        told.append(counted)
    return told


def _breaker(event: Event) -> str | None:
    """The breaker that counts an event: `provider` or `endpoint`; None if none does."""
    if event.type == "attempt.ambiguous":
        return "endpoint"
    traits = FAILURES.get(FailureKind(event.data["kind"])) if event.type == "attempt.failed" else None
    return None if traits is None else traits.breaker


def unexplained(job: JobEvidence, attempt: AttemptEvidence, faults: Faults) -> str | None:
    """Why an attempt's failure is not explained by the faults; None if it is, or if there was no failure."""
    end = attempt.end
    if end is None or end.type != "attempt.failed":
        return None
    kind, words = FailureKind(end.data["kind"]), fault_words(job)
    then = faults.during(*_lifetime(attempt))
    if _excused(kind, job, attempt, faults):
        return None
    blamed = ", ".join([*words, *(one.fault for one in then)]) or "nothing"
    return f"it ended at {attempt.provider} as {kind} ({end.data['message']!r}); wrong was: {blamed}"


def fault_words(job: JobEvidence) -> tuple[str, ...]:
    """The names of the request faults in the prompt of a job."""
    return tuple(job.spec.get("faults", ()))


def _excused(kind: FailureKind, job: JobEvidence, attempt: AttemptEvidence, faults: Faults) -> bool:
    began, ended = _lifetime(attempt)
    provider, words, then = attempt.provider, fault_words(job), faults.during(began, ended)
    at_the_deadline = job.deadline_at is None or ended >= job.deadline_at.timestamp()
    match kind:
        case FailureKind.EXPIRED:
            return at_the_deadline  # The end of the job itself is checked against its deadline.
        case FailureKind.UNAVAILABLE:
            # Nothing was sent, or it was throttled and not sent again; a breaker stays open for a while.
            if any(post["status"] != THROTTLED for post in attempt.posts):
                return False
            lasting = faults.during(began, ended, BREAKER_SHUT_S)
            return explained(kind, provider, words, lasting) or faults.struck(attempt, began, ended)
        case FailureKind.AMBIGUOUS_SUBMISSION:
            # No time was left to resolve it; it stays ambiguous, and nothing is paid again.
            return at_the_deadline and explained(kind, provider, words, then)
        case FailureKind.NEVER_ACCEPTED if attempt.posts:
            # It was sent: a process that died explains the lost answer, and not that the provider did not accept it.
            return explained(kind, provider, words, then) and refused(provider, words, then)
        case _:
            return explained(kind, provider, words, then)


def _lifetime(attempt: AttemptEvidence) -> tuple[float, float]:
    times = [one.at.timestamp() for one in attempt.events]
    assert attempt.end is not None
    return min(times), attempt.end.at.timestamp()


def may_expire(job: JobEvidence, faults: Faults) -> bool:
    """Whether a job that ended as `expired` had a reason for it."""
    end = job.ends[-1]
    ended = end.at.timestamp()
    if is_unsent(end.data) and not _accepted_before(job, ended) and _unaccepted_before(job, ended):
        return True  # The request reached the log too late, and no client had received a 202.
    if _unreachable_throughout(job, faults.windows):
        return True
    asked = min((one.at.timestamp() for one in job.requested), default=ended)
    then = faults.during(asked, ended)
    if any(FailureKind.EXPIRED in one.explains for one in then):
        return True  # The outage was as long as the default deadline.
    deadline_s = job.spec.get("fields", {}).get("deadline_s")
    if deadline_s is None or deadline_s >= SHORT_DEADLINE_S:
        return False
    return bool(deadline_s < SHORTEST_DEADLINE_S or fault_words(job) or then)


def is_unsent(end: Mapping[str, Any]) -> bool:
    """Whether a job ended as `expired` before anything was sent, from the data of the event."""
    return end.get("kind") == "expired" and not end.get("attempts")


def _accepted_before(job: JobEvidence, at: float) -> bool:
    return any(one.status == 202 and one.at < at for one in job.answers if one.call in ("post", "repeat"))


def _unaccepted_before(job: JobEvidence, at: float) -> bool:
    return any(one.status != 202 and one.at < at + AFTERMATH_S for one in job.answers if one.call == "post")


def _unreachable_throughout(job: JobEvidence, windows: Sequence[Window]) -> bool:
    """Whether its providers were unreachable from its request to its deadline, and none received a POST."""
    kinds = {one.end.data.get("kind") for one in job.attempts.values() if one.end is not None}
    if job.deadline_at is None or not job.requested or not kinds <= NEVER_SENT:
        return False
    if any(one.posts for one in job.attempts.values()):
        return False
    began, ended = min(one.at for one in job.requested).timestamp(), job.deadline_at.timestamp()
    away = [one for one in windows if {FailureKind.UNREACHABLE, FailureKind.UNAVAILABLE} <= one.explains]
    return any(one.began <= began and ended <= one.ended for one in away)


def end_expected(end: ProcessEnd, windows: Sequence[Window]) -> bool:
    """Whether a fault that a process depends on explains that it ended, to be started again."""
    return end.code in GONE_WRONG and any(
        end.service in one.ends and one.began < end.at < one.ended + ENDS_WITHIN_S for one in windows
    )
