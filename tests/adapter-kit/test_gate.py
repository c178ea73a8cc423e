"""The gate, by table and by property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_kit.gate import (
    OPEN_AT_MOST_S,
    OPEN_S,
    PROBE_LEASE_S,
    THRESHOLD,
    Admitted,
    Gate,
    Held,
    Limits,
    Shut,
    admit,
    blocked,
    ill,
    well,
)
from contracts.failures import FAILURES, FailureKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FREE = Limits()
FRESH = Gate("", NOW)
TRIPPING = [kind for kind in FailureKind if FAILURES[kind].trips_breaker]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def opened(kind: FailureKind = FailureKind.INSUFFICIENT_BALANCE) -> Gate:
    return ill(FRESH, kind, "no credit", NOW)


def test_a_well_gate_admits() -> None:
    assert isinstance(admit(FRESH, FREE, 10_000, NOW), Admitted)


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if not FAILURES[kind].trips_breaker])
def test_what_says_nothing_about_the_provider_never_opens_it(kind: FailureKind) -> None:
    gate = FRESH
    for _ in range(100):
        gate = ill(gate, kind, "x", NOW)
    assert gate == FRESH


def test_it_opens_after_enough_failures_in_a_row() -> None:
    gate = FRESH
    for _ in range(THRESHOLD - 1):
        gate = ill(gate, FailureKind.PROVIDER_ERROR, "500", NOW)
        assert gate.state == "closed"
    gate = well(gate, NOW)
    for _ in range(THRESHOLD):
        gate = ill(gate, FailureKind.PROVIDER_ERROR, "500", NOW)
    assert gate.state == "open"


def test_an_empty_account_opens_it_at_once() -> None:
    shut = admit(opened(), FREE, 0, NOW)
    assert isinstance(shut, Shut)
    assert shut.reason == "no credit"
    assert OPEN_S <= (shut.until - NOW).total_seconds() <= OPEN_S * 1.25


def test_one_probe_at_a_time_and_its_lease_frees() -> None:
    gate = opened()
    assert gate.open_until is not None
    probe = admit(gate, FREE, 0, gate.open_until)
    assert isinstance(probe, Admitted)
    assert probe.gate.state == "half_open"
    assert isinstance(admit(probe.gate, FREE, 0, gate.open_until), Shut)
    lost = gate.open_until + timedelta(seconds=PROBE_LEASE_S)
    assert isinstance(admit(probe.gate, FREE, 0, lost), Admitted)


def test_the_probes_success_closes_it_and_its_failure_doubles_the_wait() -> None:
    gate = opened()
    assert gate.open_until is not None
    probe = admit(gate, FREE, 0, gate.open_until)
    assert isinstance(probe, Admitted)
    assert well(probe.gate, gate.open_until).state == "closed"
    again = ill(probe.gate, FailureKind.PROVIDER_ERROR, "500", gate.open_until)
    assert again.state == "open"
    assert again.open_until is not None
    assert again.since == gate.since
    assert (again.open_until - gate.open_until).total_seconds() >= 2 * OPEN_S


def test_failures_of_what_was_under_way_do_not_prolong_an_opening() -> None:
    gate = opened()
    assert ill(gate, FailureKind.UNREACHABLE, "reset", later(1)).open_until == gate.open_until


def test_the_wait_is_bounded() -> None:
    gate, now = FRESH, NOW
    for _ in range(30):
        gate = ill(gate, FailureKind.UNAUTHORIZED, "401", now)
        assert gate.open_until is not None
        assert (gate.open_until - now).total_seconds() <= OPEN_AT_MOST_S * 1.25
        now = gate.open_until


def test_patience_asked_for_is_kept() -> None:
    gate = blocked(blocked(FRESH, later(30)), later(10))
    held = admit(gate, FREE, 0, NOW)
    assert isinstance(held, Held)
    assert held.until == later(30)
    assert isinstance(admit(gate, FREE, 0, later(30)), Admitted)


def test_a_full_provider_holds_and_does_not_shut() -> None:
    assert isinstance(admit(FRESH, Limits(concurrent=2), 1, NOW), Admitted)
    assert isinstance(admit(FRESH, Limits(concurrent=2), 2, NOW), Held)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=80), st.integers(1, 600))
def test_the_rate_is_never_exceeded(waits: list[float], per_minute: int) -> None:
    gate, now, sent = FRESH, NOW, []
    for wait in waits:
        now += timedelta(seconds=wait)
        verdict = admit(gate, Limits(per_minute=per_minute), 0, now)
        if isinstance(verdict, Held):
            assert now < verdict.until <= now + timedelta(seconds=60 / per_minute + 0.01)
            now = verdict.until + timedelta(milliseconds=1)
            verdict = admit(gate, Limits(per_minute=per_minute), 0, now)
        assert isinstance(verdict, Admitted)
        gate = verdict.gate
        sent.append(now)
    for i, first in enumerate(sent):
        within = [at for at in sent[i:] if at < first + timedelta(minutes=1)]
        assert len(within) <= per_minute + max(1, per_minute / 10) + 1


@given(st.lists(st.tuples(st.sampled_from(["well", "ill", "admit"]), st.sampled_from(TRIPPING), st.floats(0, 400))))
def test_it_always_opens_again_by_itself(story: list[tuple[str, FailureKind, float]]) -> None:
    gate, now = FRESH, NOW
    for what, kind, wait in story:
        now += timedelta(seconds=wait)
        if what == "well":
            gate = well(gate, now)
        elif what == "ill":
            gate = ill(gate, kind, "x", now)
        elif isinstance(verdict := admit(gate, FREE, 0, now), Admitted):
            gate = verdict.gate
    much_later = now + timedelta(seconds=OPEN_AT_MOST_S * 2)
    assert isinstance(admit(gate, FREE, 0, much_later), Admitted)
