"""In which order a job's log tells what happened: causes before effects, whatever the services' clocks say. Pure.

What is known of causes is in the messages. A job's events are numbered, and so are each attempt's. An attempt's events
come after the job's event that ordered it, and those up to its end before the job's event that answers to the end;
what the attempt says later comes after that. Time decides only between lines of which neither had to come first, and
the clocks are set by the causes first: the orchestrator's counts, and another is moved as far as it has to be for no
effect to come before its cause.
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
"""A cause and its effect: the one happened before the other."""

LONG_FOR_A_MESSAGE: Final = timedelta(seconds=30)

_ENDS: Final = frozenset({"attempt.succeeded", "attempt.failed", "attempt.cancelled"})
_RESOLVED: Final = "attempt.resolution_requested"
_ORCHESTRATOR: Final = "orchestrator"


def merged_log(stored: Iterable[LogLine], tailed: Iterable[LogLine]) -> list[LogLine]:
    """The log with each event once, in the order in which things happened."""
    stored = tuple(stored)
    known = {line.event_id for line in stored}
    return in_order([*stored, *(line for line in tailed if line.event_id not in known)])


def in_order(lines: Sequence[LogLine]) -> list[LogLine]:
    """The lines, each after what it is an effect of; of those that neither is of the other, the earlier one first."""
    pairs = [pair for pair in _pairs(lines) if pair[0] is not pair[1]]
    ahead = _clocks(pairs)
    waits: dict[str, int] = {line.event_id: 0 for line in lines}
    effects: defaultdict[str, list[LogLine]] = defaultdict(list)
    for cause, effect in pairs:
        waits[effect.event_id] += 1
        effects[cause.event_id].append(effect)
    turn = {
        line.event_id: (line.time - ahead.get(_clock_of(line), timedelta()), place) for place, line in enumerate(lines)
    }
    ready = [(*turn[line.event_id], line.event_id) for line in lines if not waits[line.event_id]]
    heapify(ready)
    by_id = {line.event_id: line for line in lines}
    ordered: dict[str, LogLine] = {}
    while len(ordered) < len(by_id):
        # Causes in a circle are no causes: what contradicts itself comes as its times say.
        *_, event_id = heappop(ready) if ready else min((*turn[each], each) for each in by_id.keys() - ordered.keys())
        if event_id in ordered:
            continue
        ordered[event_id] = by_id[event_id]
        for effect in effects[event_id]:
            waits[effect.event_id] -= 1
            if not waits[effect.event_id]:
                heappush(ready, (*turn[effect.event_id], effect.event_id))
    return list(ordered.values())


def _pairs(lines: Sequence[LogLine]) -> Iterator[Pair]:
    job = sorted((line for line in lines if _clock_of(line) == _ORCHESTRATOR), key=_version)
    attempts: defaultdict[int, list[LogLine]] = defaultdict(list)
    for line in sorted(lines, key=_version):
        if _is_of_attempt(line) and line.attempt is not None:
            attempts[line.attempt].append(line)
    about: defaultdict[int, list[LogLine]] = defaultdict(list)
    for line in job:
        # The plan is what orders the first attempt.
        for n in {line.attempt or 0, line.answers_to or 0, 1 if line.event == "job.accepted" else 0}:
            about[n].append(line)
    for request in (line for line in lines if line.event == "job.requested"):
        yield from ((request, line) for line in lines)
    for numbered in (job, *attempts.values()):
        yield from pairwise(numbered)
    verdicts = [line for line in lines if line.event == _RESOLVED]
    for n, events in attempts.items():
        yield from _around(n, events, about[n], attempts.get(n - 1, ()))
        yield from _of_verdicts(events, [line for line in verdicts if line.attempt == n])
    cancels = [line for line in lines if line.event == "job.cancel_requested"]
    yield from _of_cancels(cancels, job, attempts)


def _around(n: int, events: Sequence[LogLine], about: Sequence[LogLine], before: Sequence[LogLine]) -> Iterator[Pair]:
    """What ordered an attempt, and what followed from it."""
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


def _of_verdicts(events: Sequence[LogLine], verdicts: Sequence[LogLine]) -> Iterator[Pair]:
    """What an operator says of an attempt comes after its submit was lost, and before what follows from it."""
    for verdict in verdicts:
        yield from ((event, verdict) for event in _first(events, "attempt.ambiguous"))
        for event in events:
            accepted = verdict.provider_ref is not None and event.provider_ref == verdict.provider_ref
            if accepted or (verdict.provider_ref is None and event.error_kind == FailureKind.NEVER_ACCEPTED):
                yield verdict, event


def _of_cancels(
    cancels: Sequence[LogLine], job: Sequence[LogLine], attempts: Mapping[int, Sequence[LogLine]]
) -> Iterator[Pair]:
    """A job is cancelled, and its attempt, because its client asked for it."""
    for line in job if cancels else ():
        if line.event == "job.cancelled":
            end = _end_of(attempts.get(line.answers_to or 0, ()))
            yield from ((cancel, line) for cancel in cancels)
            if end is not None and end.event == "attempt.cancelled":
                yield from ((cancel, end) for cancel in cancels)


def _clocks(pairs: Iterable[Pair]) -> dict[str, timedelta]:
    """How far each clock is surely ahead of the orchestrator's, or behind it: the least that the causes allow."""
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
    return {clock: _nearest_to_none(least.get(clock), most.get(clock)) for clock in least.keys() | most.keys()}


def _nearest_to_none(least: timedelta | None, most: timedelta | None) -> timedelta:
    none = timedelta()
    if least is not None and most is not None and least > most:
        return (least + most) / 2  # Several replicas, each with a clock of its own.
    if least is not None and most is None and least < -LONG_FOR_A_MESSAGE:
        return least  # Nobody answers to it, so how slow it is shows only by how long its messages seem to take.
    if least is not None and least > none:
        return least
    return most if most is not None and most < none else none


def _end_of(events: Iterable[LogLine]) -> LogLine | None:
    return next((event for event in events if event.event in _ENDS and not event.late), None)


def _first(events: Iterable[LogLine], name: str) -> Iterator[LogLine]:
    return islice((event for event in events if event.event == name), 1)


def _is_of_attempt(line: LogLine) -> bool:
    return line.event.startswith("attempt.") and line.event != _RESOLVED


def _clock_of(line: LogLine) -> str:
    """Whose clock a line's time is from: the orchestrator's, an adapter's, or the gateway's."""
    if _is_of_attempt(line):
        return line.provider or "adapter"
    return _ORCHESTRATOR if line.version is not None else "gateway"


def _version(line: LogLine) -> int:
    return line.version or 0
