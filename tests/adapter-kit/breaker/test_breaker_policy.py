"""The rules of the breaker: single cases, and properties that hold after any sequence of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_kit.breaker.policy import (
    ASKED_WITHIN_S,
    KEPT_SHUT_S,
    OPEN_AT_MOST_S,
    OPEN_S,
    PROBE_LEASE_S,
    THRESHOLD,
    Admitted,
    Breaker,
    Held,
    LastError,
    Limits,
    Shut,
    admit,
    blocked,
    probe_accepted,
    probe_over,
    probed,
    record_failure,
    record_success,
    throttled,
)
from adapter_kit.port.outcomes import Failure, KeyAccepted, KeyRefused, NoAnswer, ProbeOutcome
from contracts.failures import FAILURES, FailureKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FREE = Limits()
FRESH = Breaker("provider", NOW)
TRIPPING = [kind for kind in FailureKind if FAILURES[kind].breaker]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def opened(kind: FailureKind = FailureKind.INSUFFICIENT_BALANCE) -> Breaker:
    return record_failure(FRESH, kind, "no credit", NOW)


def refused(kind: FailureKind) -> KeyRefused:
    return KeyRefused(Failure(kind, "still no"))


def after_unanswered_probe(breaker: Breaker) -> Breaker:
    """The breaker after a free probe without an answer."""
    return probed(breaker, NoAnswer("down"), breaker.opened_at or NOW, breaker.open_until or NOW)


def due(breaker: Breaker) -> datetime:
    assert breaker.open_until is not None
    return breaker.open_until


def test_a_closed_breaker_admits() -> None:
    assert isinstance(admit(FRESH, FREE, 10_000, NOW), Admitted)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if FAILURES[kind].breaker is None])
def test_failures_that_are_not_the_providers_never_open_it(kind: FailureKind) -> None:
    breaker = FRESH
    for _ in range(100):
        breaker = record_failure(breaker, kind, "x", NOW)
    assert breaker == FRESH


def test_it_opens_after_enough_failures_in_a_row() -> None:
    breaker = FRESH
    for _ in range(THRESHOLD - 1):
        breaker = record_failure(breaker, FailureKind.PROVIDER_ERROR, "500", NOW)
        assert breaker.state == "closed"
    breaker = record_success(breaker, NOW)
    for _ in range(THRESHOLD):
        breaker = record_failure(breaker, FailureKind.PROVIDER_ERROR, "500", NOW)
    assert breaker.state == "open"


def test_an_empty_account_opens_it_at_once() -> None:
    shut = admit(opened(), FREE, 0, NOW)
    assert isinstance(shut, Shut)
    assert shut.reason == "no credit"
    assert OPEN_S <= (shut.until - NOW).total_seconds() <= OPEN_S * 1.25


def test_one_probe_at_a_time_until_its_lease_expires() -> None:
    breaker = after_unanswered_probe(opened())
    assert breaker.open_until is not None
    probe = admit(breaker, FREE, 0, breaker.open_until)
    assert isinstance(probe, Admitted)
    assert probe.breaker.state == "half_open"
    assert isinstance(admit(probe.breaker, FREE, 0, breaker.open_until), Shut)
    lost = breaker.open_until + timedelta(seconds=PROBE_LEASE_S)
    assert isinstance(admit(probe.breaker, FREE, 0, lost), Admitted)


def test_a_successful_probe_closes_it_and_a_failed_one_doubles_the_wait() -> None:
    breaker = after_unanswered_probe(opened())
    assert breaker.open_until is not None
    probe = admit(breaker, FREE, 0, breaker.open_until)
    assert isinstance(probe, Admitted)
    assert record_success(probe.breaker, breaker.open_until).state == "closed"
    again = record_failure(probe.breaker, FailureKind.PROVIDER_ERROR, "500", breaker.open_until)
    assert again.state == "open"
    assert again.open_until is not None
    assert again.since == breaker.since
    assert (again.open_until - breaker.open_until).total_seconds() >= 2 * OPEN_S


def test_failures_of_earlier_submits_do_not_extend_the_open_time() -> None:
    breaker = opened()
    assert record_failure(breaker, FailureKind.UNREACHABLE, "reset", later(1)).open_until == breaker.open_until


def test_the_open_time_is_bounded() -> None:
    breaker, now = FRESH, NOW
    for _ in range(30):
        breaker = record_failure(breaker, FailureKind.UNAUTHORIZED, "401", now)
        assert breaker.open_until is not None
        assert (breaker.open_until - now).total_seconds() <= OPEN_AT_MOST_S * 1.25
        now = breaker.open_until


def test_the_longest_retry_after_is_honoured() -> None:
    breaker = blocked(blocked(FRESH, later(30)), later(10))
    held = admit(breaker, FREE, 0, NOW)
    assert isinstance(held, Held)
    assert held.until == later(30)
    assert isinstance(admit(breaker, FREE, 0, later(30)), Admitted)


def test_throttling_is_reported_and_does_not_count_as_a_failure() -> None:
    breaker = throttled(FRESH, "resets in ~30s", NOW)
    assert breaker.last_error == LastError(FailureKind.RATE_LIMITED, "resets in ~30s", NOW)
    assert (breaker.state, breaker.failures, breaker.error) == ("closed", 0, None)
    assert isinstance(admit(breaker, FREE, 0, NOW), Admitted)


def test_a_provider_at_its_concurrency_limit_holds_and_stays_closed() -> None:
    assert isinstance(admit(FRESH, Limits(concurrent=2), 1, NOW), Admitted)
    assert isinstance(admit(FRESH, Limits(concurrent=2), 2, NOW), Held)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=80), st.integers(1, 600))
def test_the_rate_is_never_exceeded(waits: list[float], per_minute: int) -> None:
    breaker, now, sent = FRESH, NOW, []
    for wait in waits:
        now += timedelta(seconds=wait)
        verdict = admit(breaker, Limits(per_minute=per_minute), 0, now)
        if isinstance(verdict, Held):
            assert now < verdict.until <= now + timedelta(seconds=60 / per_minute + 0.01)
            now = verdict.until + timedelta(milliseconds=1)
            verdict = admit(breaker, Limits(per_minute=per_minute), 0, now)
        assert isinstance(verdict, Admitted)
        breaker = verdict.breaker
        sent.append(now)
    for i, first in enumerate(sent):
        within = [at for at in sent[i:] if at < first + timedelta(minutes=1)]
        assert len(within) <= per_minute + max(1, per_minute / 10) + 1


ACCEPTED = KeyAccepted()
NO_ANSWER: ProbeOutcome = NoAnswer("down")
UNAUTHORIZED, FORBIDDEN = refused(FailureKind.UNAUTHORIZED), refused(FailureKind.FORBIDDEN)
NO_BALANCE = refused(FailureKind.INSUFFICIENT_BALANCE)
PROBE_EFFECTS: list[tuple[FailureKind, ProbeOutcome, str]] = [
    (FailureKind.UNAUTHORIZED, ACCEPTED, "due"),
    (FailureKind.UNAUTHORIZED, UNAUTHORIZED, "kept"),
    (FailureKind.UNAUTHORIZED, NO_BALANCE, "kept"),
    (FailureKind.UNAUTHORIZED, FORBIDDEN, "as it was"),
    (FailureKind.UNAUTHORIZED, NO_ANSWER, "as it was"),
    (FailureKind.FORBIDDEN, ACCEPTED, "due"),
    (FailureKind.FORBIDDEN, UNAUTHORIZED, "kept"),
    (FailureKind.FORBIDDEN, FORBIDDEN, "as it was"),
    (FailureKind.INSUFFICIENT_BALANCE, ACCEPTED, "as it was"),
    (FailureKind.INSUFFICIENT_BALANCE, NO_BALANCE, "kept"),
    (FailureKind.INSUFFICIENT_BALANCE, UNAUTHORIZED, "kept"),
    (FailureKind.MODEL_NOT_FOUND, ACCEPTED, "as it was"),
    (FailureKind.MODEL_NOT_FOUND, UNAUTHORIZED, "as it was"),
]


@pytest.mark.parametrize(("opened_for", "outcome", "then"), PROBE_EFFECTS)
def test_the_effect_of_a_free_probe_on_an_open_breaker(
    opened_for: FailureKind, outcome: ProbeOutcome, then: str
) -> None:
    breaker = opened(opened_for)
    after = probed(breaker, outcome, later(1), later(2))
    assert after.state == "open"
    match then:
        case "due":
            assert isinstance(admit(after, FREE, 0, later(2)), Admitted)
        case "kept":
            assert due(after) == later(2 + KEPT_SHUT_S)
            assert after.last_error is not None
            assert (after.error, after.last_error.at) == ("still no", later(2))
        case _:
            assert (due(after), after.error) == (due(breaker), "no credit")


def unreachable() -> Breaker:
    breaker = FRESH
    for _ in range(THRESHOLD):
        breaker = record_failure(breaker, FailureKind.UNREACHABLE, "no route", NOW)
    return breaker


def test_an_unreachable_provider_is_due_for_a_probe_once_it_accepts_the_key() -> None:
    assert due(probed(unreachable(), ACCEPTED, later(1), later(2))) == later(2)
    assert due(probed(unreachable(), UNAUTHORIZED, later(1), later(2))) == due(unreachable())


@pytest.mark.parametrize("outcome", [ACCEPTED, UNAUTHORIZED, NO_BALANCE, NO_ANSWER])
def test_a_free_probe_changes_no_closed_breaker_and_none_with_a_paid_probe_in_progress(outcome: ProbeOutcome) -> None:
    assert probed(FRESH, outcome, NOW, NOW) == FRESH
    breaker = after_unanswered_probe(opened(FailureKind.UNAUTHORIZED))
    probe = admit(breaker, FREE, 0, due(breaker))
    assert isinstance(probe, Admitted)
    assert probed(probe.breaker, outcome, due(breaker), due(breaker)) == probe.breaker


def test_a_free_probe_sent_before_the_breaker_opened_does_not_count() -> None:
    breaker = opened(FailureKind.UNAUTHORIZED)
    assert probed(breaker, ACCEPTED, later(-1), later(1)) == breaker


def test_a_paid_probe_waits_a_limited_time_for_a_free_one() -> None:
    breaker = opened()
    assert isinstance(admit(breaker, FREE, 0, due(breaker)), Shut)
    assert isinstance(admit(after_unanswered_probe(breaker), FREE, 0, due(breaker)), Admitted)
    assert isinstance(admit(breaker, FREE, 0, due(breaker) + timedelta(seconds=ASKED_WITHIN_S)), Admitted)
    of_the_model = opened(FailureKind.MODEL_NOT_FOUND)
    assert isinstance(admit(of_the_model, FREE, 0, due(of_the_model)), Admitted)


def test_a_free_probe_contradicted_by_a_paid_one_does_not_count_until_one_is_refused() -> None:
    breaker = probed(opened(FailureKind.UNAUTHORIZED), ACCEPTED, later(1), later(1))
    paid = admit(breaker, FREE, 0, later(1))
    assert isinstance(paid, Admitted)
    breaker = record_failure(paid.breaker, FailureKind.UNAUTHORIZED, "401", later(2))
    assert due(probed(breaker, ACCEPTED, later(3), later(3))) == due(breaker)
    breaker = probed(breaker, UNAUTHORIZED, later(4), later(4))
    assert due(probed(breaker, ACCEPTED, later(5), later(5))) == later(5)


def test_an_accepted_probe_blocks_others_until_its_run_ends() -> None:
    breaker = opened(FailureKind.MODEL_NOT_FOUND)
    begin = due(breaker)
    probe = admit(breaker, FREE, 0, begin)
    assert isinstance(probe, Admitted)
    long_run = probe_accepted(probe.breaker, begin, begin + timedelta(seconds=300))
    at = begin + timedelta(seconds=299)
    assert isinstance(admit(long_run, FREE, 0, at), Shut)
    assert probe_over(long_run, later(-60), at) == long_run  # It was sent before the breaker opened.
    assert isinstance(admit(probe_over(long_run, begin, at), FREE, 0, at), Admitted)


def test_the_last_error_is_kept_after_the_breaker_closes() -> None:
    breaker = record_success(opened(), later(9))
    assert breaker.error is None
    assert breaker.last_error is not None
    assert (breaker.last_error.kind, breaker.last_error.at) == (FailureKind.INSUFFICIENT_BALANCE, NOW)


PROBE_OUTCOMES = st.sampled_from([ACCEPTED, UNAUTHORIZED, FORBIDDEN, NO_BALANCE, NO_ANSWER])
Event = tuple[str, FailureKind, ProbeOutcome, float]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["success", "failure", "admit", "free", "over"]),
        st.sampled_from(TRIPPING),
        PROBE_OUTCOMES,
        st.floats(0, 400),
    )
)


def apply(breaker: Breaker, event: Event, now: datetime) -> Breaker:
    """The breaker after the event."""
    what, kind, outcome, _ = event
    match what:
        case "success":
            return record_success(breaker, now)
        case "failure":
            return record_failure(breaker, kind, "x", now)
        case "free":
            return probed(breaker, outcome, now, now)
        case "over":
            return probe_over(breaker, breaker.probe_at, now)
        case _:
            verdict = admit(breaker, FREE, 0, now)
            return verdict.breaker if isinstance(verdict, Admitted) else breaker


@given(EVENTS)
def test_it_always_admits_again_after_the_longest_open_time(events: list[Event]) -> None:
    breaker, now = FRESH, NOW
    for event in events:
        now += timedelta(seconds=event[3])
        breaker = apply(breaker, event, now)
    much_later = now + timedelta(seconds=OPEN_AT_MOST_S * 2)
    assert isinstance(admit(breaker, FREE, 0, much_later), Admitted)


@given(EVENTS)
def test_one_paid_probe_at_a_time_and_no_free_one_closes_a_breaker(events: list[Event]) -> None:
    breaker, now = FRESH, NOW
    probe_until: datetime | None = None
    for event in events:
        now += timedelta(seconds=event[3])
        before, breaker = breaker, apply(breaker, event, now)
        what = event[0]
        if what == "free":
            assert (breaker.state == "closed") == (before.state == "closed")
            assert before.state != "half_open" or probe_until is None or now >= probe_until or breaker == before
        if what == "admit" and before.state != "closed" and breaker != before:
            assert probe_until is None or now >= probe_until
            probe_until = now + timedelta(seconds=PROBE_LEASE_S)
        if what in ("success", "over") or breaker.state != "half_open":
            probe_until = None


@given(EVENTS, st.floats(0, KEPT_SHUT_S - 1))
def test_a_refused_key_causes_no_paid_probe(events: list[Event], wait: float) -> None:
    breaker, now = FRESH, NOW
    for event in events:
        now += timedelta(seconds=event[3])
        breaker = apply(breaker, event, now)
    breaker = record_failure(record_success(breaker, now), FailureKind.UNAUTHORIZED, "401", now)
    breaker = probed(breaker, UNAUTHORIZED, now, now)
    assert isinstance(admit(breaker, FREE, 0, now + timedelta(seconds=wait)), Shut)


@given(EVENTS)
def test_free_probes_hurry_one_paid_probe_until_one_is_refused_or_the_breaker_closes(events: list[Event]) -> None:
    breaker, now, hurried = FRESH, NOW, False
    for event in events:
        now += timedelta(seconds=event[3])
        before, breaker = breaker, apply(breaker, event, now)
        if event[0] == "free" and before.open_until != breaker.open_until and breaker.open_until == now:
            assert not hurried
            hurried = True
        elif breaker.state == "closed" or (event[0] == "free" and breaker.error == "still no" and before != breaker):
            hurried = breaker.hurried
