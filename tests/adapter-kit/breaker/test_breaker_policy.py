"""The breaker, by table and by property."""

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


def asked(breaker: Breaker) -> Breaker:
    """The breaker once the free probe had nothing to say."""
    return probed(breaker, NoAnswer("down"), breaker.opened_at or NOW, breaker.open_until or NOW)


def due(breaker: Breaker) -> datetime:
    assert breaker.open_until is not None
    return breaker.open_until


def test_a_well_gate_admits() -> None:
    assert isinstance(admit(FRESH, FREE, 10_000, NOW), Admitted)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if FAILURES[kind].breaker is None])
def test_what_says_nothing_about_the_provider_never_opens_it(kind: FailureKind) -> None:
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


def test_one_probe_at_a_time_and_its_lease_frees() -> None:
    breaker = asked(opened())
    assert breaker.open_until is not None
    probe = admit(breaker, FREE, 0, breaker.open_until)
    assert isinstance(probe, Admitted)
    assert probe.breaker.state == "half_open"
    assert isinstance(admit(probe.breaker, FREE, 0, breaker.open_until), Shut)
    lost = breaker.open_until + timedelta(seconds=PROBE_LEASE_S)
    assert isinstance(admit(probe.breaker, FREE, 0, lost), Admitted)


def test_the_probes_success_closes_it_and_its_failure_doubles_the_wait() -> None:
    breaker = asked(opened())
    assert breaker.open_until is not None
    probe = admit(breaker, FREE, 0, breaker.open_until)
    assert isinstance(probe, Admitted)
    assert record_success(probe.breaker, breaker.open_until).state == "closed"
    again = record_failure(probe.breaker, FailureKind.PROVIDER_ERROR, "500", breaker.open_until)
    assert again.state == "open"
    assert again.open_until is not None
    assert again.since == breaker.since
    assert (again.open_until - breaker.open_until).total_seconds() >= 2 * OPEN_S


def test_failures_of_what_was_under_way_do_not_prolong_an_opening() -> None:
    breaker = opened()
    assert record_failure(breaker, FailureKind.UNREACHABLE, "reset", later(1)).open_until == breaker.open_until


def test_the_wait_is_bounded() -> None:
    breaker, now = FRESH, NOW
    for _ in range(30):
        breaker = record_failure(breaker, FailureKind.UNAUTHORIZED, "401", now)
        assert breaker.open_until is not None
        assert (breaker.open_until - now).total_seconds() <= OPEN_AT_MOST_S * 1.25
        now = breaker.open_until


def test_patience_asked_for_is_kept() -> None:
    breaker = blocked(blocked(FRESH, later(30)), later(10))
    held = admit(breaker, FREE, 0, NOW)
    assert isinstance(held, Held)
    assert held.until == later(30)
    assert isinstance(admit(breaker, FREE, 0, later(30)), Admitted)


def test_a_throttling_is_told_and_not_held_against_the_provider() -> None:
    breaker = throttled(FRESH, "resets in ~30s", NOW)
    assert breaker.last_error == LastError(FailureKind.RATE_LIMITED, "resets in ~30s", NOW)
    assert (breaker.state, breaker.failures, breaker.error) == ("closed", 0, None)
    assert isinstance(admit(breaker, FREE, 0, NOW), Admitted)


def test_a_full_provider_holds_and_does_not_shut() -> None:
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


CONTENT = KeyAccepted()
NOTHING: ProbeOutcome = NoAnswer("down")
UNAUTHORIZED, FORBIDDEN = refused(FailureKind.UNAUTHORIZED), refused(FailureKind.FORBIDDEN)
NO_BALANCE = refused(FailureKind.INSUFFICIENT_BALANCE)
FREE_PROBES: list[tuple[FailureKind, ProbeOutcome, str]] = [
    (FailureKind.UNAUTHORIZED, CONTENT, "due"),
    (FailureKind.UNAUTHORIZED, UNAUTHORIZED, "kept"),
    (FailureKind.UNAUTHORIZED, NO_BALANCE, "kept"),
    (FailureKind.UNAUTHORIZED, FORBIDDEN, "as it was"),
    (FailureKind.UNAUTHORIZED, NOTHING, "as it was"),
    (FailureKind.FORBIDDEN, CONTENT, "due"),
    (FailureKind.FORBIDDEN, UNAUTHORIZED, "kept"),
    (FailureKind.FORBIDDEN, FORBIDDEN, "as it was"),
    (FailureKind.INSUFFICIENT_BALANCE, CONTENT, "as it was"),
    (FailureKind.INSUFFICIENT_BALANCE, NO_BALANCE, "kept"),
    (FailureKind.INSUFFICIENT_BALANCE, UNAUTHORIZED, "kept"),
    (FailureKind.MODEL_NOT_FOUND, CONTENT, "as it was"),
    (FailureKind.MODEL_NOT_FOUND, UNAUTHORIZED, "as it was"),
]


@pytest.mark.parametrize(("shut_for", "said", "then"), FREE_PROBES)
def test_what_a_free_probe_means_to_a_gate_that_is_shut(shut_for: FailureKind, said: ProbeOutcome, then: str) -> None:
    breaker = opened(shut_for)
    after = probed(breaker, said, later(1), later(2))
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


def test_a_provider_that_answers_again_is_due_whatever_it_answers_about_the_key() -> None:
    assert due(probed(unreachable(), CONTENT, later(1), later(2))) == later(2)
    assert due(probed(unreachable(), UNAUTHORIZED, later(1), later(2))) == due(unreachable())


@pytest.mark.parametrize("said", [CONTENT, UNAUTHORIZED, NO_BALANCE, NOTHING])
def test_a_free_probe_says_nothing_to_an_open_door_nor_while_a_paid_one_is_under_way(said: ProbeOutcome) -> None:
    assert probed(FRESH, said, NOW, NOW) == FRESH
    breaker = asked(opened(FailureKind.UNAUTHORIZED))
    probe = admit(breaker, FREE, 0, due(breaker))
    assert isinstance(probe, Admitted)
    assert probed(probe.breaker, said, due(breaker), due(breaker)) == probe.breaker


def test_what_was_asked_before_the_gate_was_shut_says_nothing_about_it() -> None:
    breaker = opened(FailureKind.UNAUTHORIZED)
    assert probed(breaker, CONTENT, later(-1), later(1)) == breaker


def test_a_paid_probe_waits_for_the_free_one_for_a_while() -> None:
    breaker = opened()
    assert isinstance(admit(breaker, FREE, 0, due(breaker)), Shut)
    assert isinstance(admit(asked(breaker), FREE, 0, due(breaker)), Admitted)
    assert isinstance(admit(breaker, FREE, 0, due(breaker) + timedelta(seconds=ASKED_WITHIN_S)), Admitted)
    of_the_model = opened(FailureKind.MODEL_NOT_FOUND)
    assert isinstance(admit(of_the_model, FREE, 0, due(of_the_model)), Admitted)


def test_a_content_free_probe_that_a_paid_one_belies_is_not_believed_until_it_was_refused() -> None:
    breaker = probed(opened(FailureKind.UNAUTHORIZED), CONTENT, later(1), later(1))
    paid = admit(breaker, FREE, 0, later(1))
    assert isinstance(paid, Admitted)
    breaker = record_failure(paid.breaker, FailureKind.UNAUTHORIZED, "401", later(2))
    assert due(probed(breaker, CONTENT, later(3), later(3))) == due(breaker)
    breaker = probed(breaker, UNAUTHORIZED, later(4), later(4))
    assert due(probed(breaker, CONTENT, later(5), later(5))) == later(5)


def test_a_run_that_is_the_probe_keeps_others_out_until_it_is_over() -> None:
    breaker = opened(FailureKind.MODEL_NOT_FOUND)
    begin = due(breaker)
    probe = admit(breaker, FREE, 0, begin)
    assert isinstance(probe, Admitted)
    long_run = probe_accepted(probe.breaker, begin, begin + timedelta(seconds=300))
    at = begin + timedelta(seconds=299)
    assert isinstance(admit(long_run, FREE, 0, at), Shut)
    assert probe_over(long_run, later(-60), at) == long_run  # It was sent before the breaker was shut.
    assert isinstance(admit(probe_over(long_run, begin, at), FREE, 0, at), Admitted)


def test_what_was_last_said_is_known_after_it_is_well_again() -> None:
    breaker = record_success(opened(), later(9))
    assert breaker.error is None
    assert breaker.last_error is not None
    assert (breaker.last_error.kind, breaker.last_error.at) == (FailureKind.INSUFFICIENT_BALANCE, NOW)


SAID = st.sampled_from([CONTENT, UNAUTHORIZED, FORBIDDEN, NO_BALANCE, NOTHING])
Chapter = tuple[str, FailureKind, ProbeOutcome, float]
STORY = st.lists(
    st.tuples(
        st.sampled_from(["well", "ill", "admit", "free", "over"]), st.sampled_from(TRIPPING), SAID, st.floats(0, 400)
    )
)


def happens(breaker: Breaker, chapter: Chapter, now: datetime) -> Breaker:
    """What becomes of a breaker to which something happens."""
    what, kind, said, _ = chapter
    match what:
        case "well":
            return record_success(breaker, now)
        case "ill":
            return record_failure(breaker, kind, "x", now)
        case "free":
            return probed(breaker, said, now, now)
        case "over":
            return probe_over(breaker, breaker.probe_at, now)
        case _:
            verdict = admit(breaker, FREE, 0, now)
            return verdict.breaker if isinstance(verdict, Admitted) else breaker


@given(STORY)
def test_it_always_opens_again_by_itself(story: list[Chapter]) -> None:
    breaker, now = FRESH, NOW
    for chapter in story:
        now += timedelta(seconds=chapter[3])
        breaker = happens(breaker, chapter, now)
    much_later = now + timedelta(seconds=OPEN_AT_MOST_S * 2)
    assert isinstance(admit(breaker, FREE, 0, much_later), Admitted)


@given(STORY)
def test_never_two_paid_probes_at_a_time_and_no_free_one_closes_a_gate(story: list[Chapter]) -> None:
    breaker, now = FRESH, NOW
    under_way_until: datetime | None = None
    for chapter in story:
        now += timedelta(seconds=chapter[3])
        before, breaker = breaker, happens(breaker, chapter, now)
        what = chapter[0]
        if what == "free":
            assert (breaker.state == "closed") == (before.state == "closed")
            assert before.state != "half_open" or under_way_until is None or now >= under_way_until or breaker == before
        if what == "admit" and before.state != "closed" and breaker != before:
            assert under_way_until is None or now >= under_way_until
            under_way_until = now + timedelta(seconds=PROBE_LEASE_S)
        if what in ("well", "over") or breaker.state != "half_open":
            under_way_until = None


@given(STORY, st.floats(0, KEPT_SHUT_S - 1))
def test_a_refused_key_spends_no_paid_probe(story: list[Chapter], wait: float) -> None:
    breaker, now = FRESH, NOW
    for chapter in story:
        now += timedelta(seconds=chapter[3])
        breaker = happens(breaker, chapter, now)
    breaker = record_failure(record_success(breaker, now), FailureKind.UNAUTHORIZED, "401", now)
    breaker = probed(breaker, UNAUTHORIZED, now, now)
    assert isinstance(admit(breaker, FREE, 0, now + timedelta(seconds=wait)), Shut)


@given(STORY)
def test_a_free_probe_hurries_one_paid_probe_until_it_is_refused_or_the_gate_closes(story: list[Chapter]) -> None:
    breaker, now, hurried = FRESH, NOW, False
    for chapter in story:
        now += timedelta(seconds=chapter[3])
        before, breaker = breaker, happens(breaker, chapter, now)
        if chapter[0] == "free" and before.open_until != breaker.open_until and breaker.open_until == now:
            assert not hurried
            hurried = True
        elif breaker.state == "closed" or (chapter[0] == "free" and breaker.error == "still no" and before != breaker):
            hurried = breaker.hurried
