"""Faults of providers, and of what is paid to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from chaos.alerts.bench import Bench
from chaos.alerts.case import case

_REFUSED: Final = {"refuse": "unauthorized"}
_NO_MEDIA: Final = {"status": 500, "error": "nothing came of it", "error_type": "no_media_generated"}
_FAILED_TRIES: Final = 6
"""Their pauses double from one second: about a minute in all."""
_ELSEWHERE: Final = "jobs leave the provider for the next one"


def _rules(*rules: Mapping[str, Any]) -> Callable[[Bench], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def fault(bench: Bench) -> AsyncIterator[None]:
        await bench.faults(*rules)
        try:
            yield
        finally:
            await bench.faults()

    return fault


def _key_refused(*providers: str) -> list[Mapping[str, Any]]:
    return [{"provider": name, "on": on, "action": _REFUSED} for name in providers for on in ("submit", "probe")]


@asynccontextmanager
async def _fetches_fail(bench: Bench) -> AsyncIterator[None]:
    late = {"files": {"not_yet": _FAILED_TRIES, "status": 503}}
    await bench.faults({"prompt_contains": "<late>", "action": late})
    for _ in range(3):
        await bench.job("<late>")
    yield


@asynccontextmanager
async def _answers_lost(bench: Bench) -> AsyncIterator[None]:
    lost = {"accept_then": "drop", "webhook": ["never"]}
    await bench.faults(
        {"provider": "fal", "prompt_contains": "<lost>", "action": lost},
        {"provider": "fal", "on": "list", "action": {"refuse": "internal_500"}},
    )
    for _ in range(2):
        await bench.job("<lost>", providers=["fal"])
    try:
        yield
    finally:
        await bench.faults()


@asynccontextmanager
async def _found_late(bench: Bench) -> AsyncIterator[None]:
    slow = {"accept_then": "drop", "run_s": 95}
    await bench.faults({"provider": "fal", "prompt_contains": "<slow>", "action": slow})
    await bench.job("<slow>")
    yield


@asynccontextmanager
async def _budget(bench: Bench) -> AsyncIterator[None]:
    await bench.budget("0.01")
    try:
        yield
    finally:
        await bench.budget("Inf")


CASES: Final = (
    case(
        "key-refused",
        "Replicate refuses the key",
        "KeyRefused",
        "ProviderDown",
        fault=_rules(*_key_refused("replicate")),
        of="replicate",
        may={"Failovers": _ELSEWHERE},
    ),
    case(
        "no-balance",
        "fal's account has no credit left",
        "BalanceExhausted",
        "ProviderDown",
        fault=_rules({"provider": "fal", "action": {"refuse": "balance"}}),
        of="fal",
        may={"Failovers": _ELSEWHERE},
    ),
    case(
        "no-provider",
        "both providers refuse their keys",
        "NoProviderUp",
        "KeyRefused",
        "ProviderDown",
        fault=_rules(*_key_refused("fal", "replicate")),
        may={"Failovers": _ELSEWHERE, "MostJobsFail": "jobs fail without a provider"},
    ),
    case(
        "no-files",
        "outputs of three paid runs cannot be fetched for a minute",
        "FetchesFailing",
        fault=_fetches_fail,
        of="fal",
    ),
    case("budget", "the budget is below what was spent", "BudgetNearlySpent", fault=_budget),
    case(
        "no-results",
        "every run fails at both providers",
        "NothingSucceeds",
        "MostJobsFail",
        "Failovers",
        fault=_rules(
            {"provider": "fal", "action": {"fail": _NO_MEDIA}},
            {"provider": "replicate", "action": {"fail": "out_of_memory"}},
        ),
        within_s=260,
    ),
    case(
        "found-late",
        "the answer to a submit is lost, and its run shows up after the grace",
        "AmbiguousHeld",
        "DuplicatesSuspected",
        fault=_found_late,
        of="fal",
        within_s=180,
    ),
    case(
        "answers-lost",
        "answers to submits are lost, and the provider's list fails beyond the grace",
        "AmbiguousHeld",
        "AmbiguousUnresolved",
        fault=_answers_lost,
        of="fal",
        within_s=180,
        clear_s=330,
    ),
)
