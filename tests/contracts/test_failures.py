"""The closed list of failure kinds: every kind has its traits, and the traits agree with the documented promises."""

from __future__ import annotations

import pytest

from contracts.failures import FAILURES, FailureKind


def test_every_kind_has_its_traits() -> None:
    assert set(FAILURES) == set(FailureKind)


@pytest.mark.parametrize("kind", FailureKind)
def test_the_meaning_of_a_kind_is_a_distinct_sentence(kind: FailureKind) -> None:
    meaning = FAILURES[kind].meaning
    assert meaning[0].isupper()
    assert meaning.endswith(".")
    assert [other for other in FailureKind if FAILURES[other].meaning == meaning] == [kind]


@pytest.mark.parametrize("kind", FailureKind)
def test_a_callers_mistake_costs_once_and_is_no_sign_of_sickness(kind: FailureKind) -> None:
    traits = FAILURES[kind]
    if traits.callers_fault:
        assert not traits.moves_on
        assert traits.breaker is None


def test_only_the_input_and_its_content_are_the_callers_fault() -> None:
    assert {kind for kind in FailureKind if FAILURES[kind].callers_fault} == {
        FailureKind.INVALID_INPUT,
        FailureKind.CONTENT_POLICY,
    }


def test_the_next_provider_is_not_tried_without_evidence() -> None:
    assert {kind for kind in FailureKind if not FAILURES[kind].moves_on} == {
        FailureKind.INVALID_INPUT,
        FailureKind.CONTENT_POLICY,
        FailureKind.AMBIGUOUS_SUBMISSION,
        FailureKind.EXPIRED,
        FailureKind.NO_ROUTE,
        FailureKind.STORE_FAILED,
        FailureKind.OUTPUT_REFUSED,
        FailureKind.OUTPUT_UNREADABLE,
        FailureKind.UNRECOGNISED,
    }
