"""What the queries, the intake and the signatures raise: each error has its problem document, and no other has one."""

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


def test_an_error_of_another_kind_is_raised_again() -> None:
    error = LookupError("a fault of the program")
    with pytest.raises(LookupError) as caught:
        problem_of(error)
    assert caught.value is error


@pytest.mark.parametrize("kind", [NotConfirmed, ArrivedTooLate])
@pytest.mark.parametrize("key", ["order-1", None])
def test_what_may_be_repeated_names_its_key(kind: type[NotConfirmed | ArrivedTooLate], key: str | None) -> None:
    problem = problem_of(kind(key))
    assert (problem.status, problem.headers["Retry-After"]) == (503, "5")
    assert problem.headers.get("Idempotency-Key") == problem.members["idempotency_key"] == key


@pytest.mark.parametrize(
    ("said", "known", "kind"),
    [
        (About("r1", None), {"a.2": "r1"}, "callback-of-another-attempt"),
        (About("r1", "a.2"), {}, "callback-of-another-attempt"),
        (About("r1", "a.2"), {"a.1": "r0"}, "callback-of-another-attempt"),
        (About("r1", "a.1"), {"a.1": "r0"}, "callback-of-another-run"),
    ],
)
def test_a_run_that_is_not_the_attempts_is_refused(said: About, known: dict[str, str | None], kind: str) -> None:
    with pytest.raises(RunMismatch) as caught:
        require_own_run(said, "a.1", known)
    problem = problem_of(caught.value)
    assert (problem.status, problem.kind) == (409, kind)


@pytest.mark.parametrize("known", [{}, {"a.1": None}, {"a.1": "r1"}, {"a.1": "r1", "a.2": "r1"}])
def test_a_run_that_may_be_the_attempts_is_taken(known: dict[str, str | None]) -> None:
    require_own_run(About("r1", "a.1"), "a.1", known)
