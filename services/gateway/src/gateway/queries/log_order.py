"""Orders the lines of a job's log by causality, since the clocks of the services differ. Pure.

The causal order follows from the messages. The events of a job are numbered, and so are the events of each attempt. The
events of an attempt come after the job's event that ordered it. Those up to its end come before the job's event that
answers to the end, and its later events after that.

Time orders only lines that are not related causally. The times are corrected first: the orchestrator's clock is the
reference, and each other clock is shifted by the least amount that lets no effect precede its cause.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from heapq import heapify, heappop, heappush
from itertools import islice, pairwise
from typing import Final

from contracts.failures import FailureKind
from gateway.queries.model import LogLine

Pair = tuple[LogLine, LogLine]
"""A cause and its effect."""

LONG_FOR_A_MESSAGE: Final = timedelta(seconds=30)
"""A longer delay between a cause and its effect means that the clocks differ."""

_ENDS: Final = frozenset({"attempt.succeeded", "attempt.failed", "attempt.cancelled"})
_RESOLVED: Final = "attempt.resolution_requested"
_ORCHESTRATOR: Final = "orchestrator"


def merged_log(stored: Iterable[LogLine], tailed: Iterable[LogLine]) -> list[LogLine]:
    """The stored and the tailed lines, each event once, in causal order."""
    stored = tuple(stored)
    known = {line.event_id for line in stored}
    return in_order([*stored, *(line for line in tailed if line.event_id not in known)])


def in_order(lines: Sequence[LogLine]) -> list[LogLine]:
    """The lines in causal order; lines that are not related causally by their corrected times."""
    pairs = [pair for pair in _pairs(lines) if pair[0] is not pair[1]]
    ahead = _clock_offsets(pairs)
    causes_left: dict[str, int] = {line.event_id: 0 for line in lines}
    effects: defaultdict[str, list[LogLine]] = defaultdict(list)
    for cause, effect in pairs:
        causes_left[effect.event_id] += 1
        effects[cause.event_id].append(effect)
    rank = {
        line.event_id: (line.time - ahead.get(_clock_of(line), timedelta()), place) for place, line in enumerate(lines)
    }
    ready = [(*rank[line.event_id], line.event_id) for line in lines if not causes_left[line.event_id]]
    heapify(ready)
    by_id = {line.event_id: line for line in lines}
    ordered: dict[str, LogLine] = {}
    while len(ordered) < len(by_id):
        # Nothing is ready only if the causes form a cycle; time decides then.
        *_, event_id = heappop(ready) if ready else min((*rank[each], each) for each in by_id.keys() - ordered.keys())
        if event_id in ordered:
            continue
        ordered[event_id] = by_id[event_id]
        for effect in effects[event_id]:
            causes_left[effect.event_id] -= 1
            if not causes_left[effect.event_id]:
                heappush(ready, (*rank[effect.event_id], effect.event_id))
    return list(ordered.values())


def _pairs(lines: Sequence[LogLine]) -> Iterator[Pair]:
    job = sorted((line for line in lines if _clock_of(line) == _ORCHESTRATOR), key=_version)
    attempts: defaultdict[int, list[LogLine]] = defaultdict(list)
    for line in sorted(lines, key=_version):
        if _is_of_attempt(line) and line.attempt is not None:
            attempts[line.attempt].append(line)
    about: defaultdict[int, list[LogLine]] = defaultdict(list)
    for line in job:
        # job.accepted orders the first attempt.
        for n in {line.attempt or 0, line.answers_to or 0, 1 if line.event == "job.accepted" else 0}:
            about[n].append(line)
    for request in (line for line in lines if line.event == "job.requested"):
        yield from ((request, line) for line in lines)
    for numbered in (job, *attempts.values()):
        yield from pairwise(numbered)
    resolutions = [line for line in lines if line.event == _RESOLVED]
    for n, events in attempts.items():
        yield from _around(n, events, about[n], attempts.get(n - 1, ()))
        yield from _of_resolutions(events, [line for line in resolutions if line.attempt == n])
    cancels = [line for line in lines if line.event == "job.cancel_requested"]
    yield from _of_cancels(cancels, job, attempts)


def _around(n: int, events: Sequence[LogLine], about: Sequence[LogLine], before: Sequence[LogLine]) -> Iterator[Pair]:
    """The pairs of an attempt's events with the job's events `about` it, and with the end of the attempt `before`."""
    first, end = events[0], _end_of(events)
    for line in about:
        if line.event == "job.accepted" or (line.event, line.attempt) == ("job.rerouted", n):
            yield line, first
        if line.event == "job.started":
            yield from ((event, line) for event in _first(events, "attempt.submitted"))
        if line.answers_to == n:
            yield from ((line, event) for event in events if event.late)
            if end is not None:
                yield end, line
    # A job has one live attempt at most.
    if (end_before := _end_of(before)) is not None:
        yield end_before, first


def _of_resolutions(events: Sequence[LogLine], resolutions: Sequence[LogLine]) -> Iterator[Pair]:
    """An operator resolves an attempt after it became ambiguous and before the events that the resolution leads to."""
    for resolution in resolutions:
        yield from ((event, resolution) for event in _first(events, "attempt.ambiguous"))
        for event in events:
            accepted = resolution.provider_ref is not None and event.provider_ref == resolution.provider_ref
            if accepted or (resolution.provider_ref is None and event.error_kind == FailureKind.NEVER_ACCEPTED):
                yield resolution, event


def _of_cancels(
    cancels: Sequence[LogLine], job: Sequence[LogLine], attempts: Mapping[int, Sequence[LogLine]]
) -> Iterator[Pair]:
    """A client's request to cancel precedes the cancellation of the job and of its attempt."""
    for line in job if cancels else ():
        if line.event == "job.cancelled":
            end = _end_of(attempts.get(line.answers_to or 0, ()))
            yield from ((cancel, line) for cancel in cancels)
            if end is not None and end.event == "attempt.cancelled":
                yield from ((cancel, end) for cancel in cancels)


def _clock_offsets(pairs: Iterable[Pair]) -> dict[str, timedelta]:
    """How far each clock is ahead of the orchestrator's: the offset nearest to 0 that agrees with the pairs."""
    least: dict[str, timedelta] = {}
    most: dict[str, timedelta] = {}
    for cause, effect in pairs:
        if _clock_of(cause) == _clock_of(effect):
            continue
        if _clock_of(effect) == _ORCHESTRATOR:
            clock, ahead = _clock_of(cause), cause.time - effect.time
            least[clock] = max(least.get(clock, ahead), ahead)
        elif _clock_of(cause) == _ORCHESTRATOR:
            clock, ahead = _clock_of(effect), effect.time - cause.time
            most[clock] = min(most.get(clock, ahead), ahead)
    return {clock: _nearest_to_zero(least.get(clock), most.get(clock)) for clock in least.keys() | most.keys()}


def _nearest_to_zero(least: timedelta | None, most: timedelta | None) -> timedelta:
    zero = timedelta()
    if least is not None and most is not None and least > most:
        return (least + most) / 2  # The service has several replicas, whose clocks differ.
    if least is not None and most is None and least < -LONG_FOR_A_MESSAGE:
        return least  # No pair bounds the offset from above; only the apparent delay of its messages shows it.
    if least is not None and least > zero:
        return least
    return most if most is not None and most < zero else zero


def _end_of(events: Iterable[LogLine]) -> LogLine | None:
    return next((event for event in events if event.event in _ENDS and not event.late), None)


def _first(events: Iterable[LogLine], name: str) -> Iterator[LogLine]:
    return islice((event for event in events if event.event == name), 1)


def _is_of_attempt(line: LogLine) -> bool:
    return line.event.startswith("attempt.") and line.event != _RESOLVED


def _clock_of(line: LogLine) -> str:
    """The name of the clock of a line's time: a provider for its adapter's clock, "orchestrator" or "gateway"."""
    if _is_of_attempt(line):
        return line.provider or "adapter"
    return _ORCHESTRATOR if line.version is not None else "gateway"


def _version(line: LogLine) -> int:
    return line.version or 0
