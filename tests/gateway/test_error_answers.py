"""Each error of the queries, the intake and the signatures has its problem document, and no other error has one."""

from __future__ import annotations

from types import ModuleType

import pytest

from gateway.api.error_answers import problem_of
from gateway.intake import errors as intake_errors
from gateway.intake.errors import ArrivedTooLate, NotConfirmed
from gateway.queries import errors as query_errors
from gateway.signatures.run_match import About, RunMismatch, require_own_run


@pytest.mark.parametrize("module", [query_errors, intake_errors])
def test_every_error_has_its_problem(module: ModuleType) -> None:
    defined = {each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert defined
    assert defined <= problem_of.registry.keys()


def test_another_error_is_raised_again() -> None:
    error = LookupError("a fault of the program")
    with pytest.raises(LookupError) as caught:
        problem_of(error)
    assert caught.value is error


@pytest.mark.parametrize("kind", [NotConfirmed, ArrivedTooLate])
@pytest.mark.parametrize("key", ["order-1", None])
def test_an_error_that_allows_a_repeat_names_its_key(
    kind: type[NotConfirmed | ArrivedTooLate], key: str | None
) -> None:
    problem = problem_of(kind(key))
    assert (problem.status, problem.headers["Retry-After"]) == (503, "5")
    assert problem.headers.get("Idempotency-Key") == problem.members["idempotency_key"] == key


@pytest.mark.parametrize(
    ("reported", "known", "kind"),
    [
        (About("r1", None), {"a.2": "r1"}, "callback-of-another-attempt"),
        (About("r1", "a.2"), {}, "callback-of-another-attempt"),
        (About("r1", "a.2"), {"a.1": "r0"}, "callback-of-another-attempt"),
        (About("r1", "a.1"), {"a.1": "r0"}, "callback-of-another-run"),
    ],
)
def test_a_run_of_another_attempt_is_refused(reported: About, known: dict[str, str | None], kind: str) -> None:
    with pytest.raises(RunMismatch) as caught:
        require_own_run(reported, "a.1", known)
    problem = problem_of(caught.value)
    assert (problem.status, problem.kind) == (409, kind)


@pytest.mark.parametrize("known", [{}, {"a.1": None}, {"a.1": "r1"}, {"a.1": "r1", "a.2": "r1"}])
def test_a_run_that_may_be_that_of_the_attempt_is_accepted(known: dict[str, str | None]) -> None:
    require_own_run(About("r1", "a.1"), "a.1", known)
