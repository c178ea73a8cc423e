"""The order of routes by each strategy, and the description of the order."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.catalogue import Price, Route
from contracts.generation import Provider
from contracts.messages.routing import RouteBy
from contracts.modalities.music import MusicInput
from orchestrator.routing.ordering import Latencies, Latency, in_order
from orchestrator.routing.policy import Option, Rules

PAD = MusicInput(prompt="a warm ambient pad", duration_s=20)
JOB = "7d193d61-40a9-5489-906a-2be74ad3f732"


def route(provider: Provider, usd: float | None = None) -> Route:
    price = None if usd is None else Price(usd=usd, per="run")
    return Route(
        provider=provider,
        model="music/test",
        endpoint=f"{provider}/test",
        takes={},
        price=price,
        longest_run_s=60,
        start_within_s=30,
        source="https://example.com",
    )


def rules(route_by: RouteBy, weights: dict[Provider, float] | None = None) -> Rules:
    return Rules(
        Option(None, "MUSIC_PROVIDER says"),
        Option(route_by, "the request asks"),
        weights or {},
        Option(None, ""),
        False,
    )


def paces(fal: Latency | None = None, replicate: Latency | None = None) -> Latencies:
    known: dict[Provider, Latency | None] = {"fal": fal, "replicate": replicate}
    return {(provider, f"{provider}/test"): pace for provider, pace in known.items() if pace}


@pytest.mark.parametrize(
    ("fal", "replicate", "order", "reason"),
    [
        (0.04, 0.03, ["replicate", "fal"], "replicate $0.03 before fal $0.04"),
        (0.03, 0.04, ["fal", "replicate"], "fal $0.03 before replicate $0.04"),
        (0.03, 0.03, ["fal", "replicate"], "fal $0.03 and replicate $0.03"),
        (None, 0.9, ["replicate", "fal"], "replicate $0.90 before fal of unknown price"),
        (None, None, ["fal", "replicate"], "fal of unknown price and replicate of unknown price"),
        (0.003, 0.0, ["replicate", "fal"], "replicate $0.00 before fal $0.003"),
    ],
)
def test_the_cheapest_goes_first(fal: float | None, replicate: float | None, order: list[str], reason: str) -> None:
    routes, why = in_order([route("fal", fal), route("replicate", replicate)], rules("cheapest"), PAD, JOB, {})
    assert [each.provider for each in routes] == order
    assert why == f"cheapest first: {reason}, as the request asks"


def test_the_price_is_that_of_the_request() -> None:
    by_minute = Route(
        provider="fal",
        model="music/test",
        endpoint="fal/test",
        takes={},
        price=Price(usd=0.5, per="minute"),
        longest_run_s=60,
        start_within_s=30,
        source="https://example.com",
    )
    both = [by_minute, route("replicate", 0.75)]
    long = PAD.model_copy(update={"duration_s": 61.0})
    assert [each.provider for each in in_order(both, rules("cheapest"), PAD, JOB, {})[0]] == ["fal", "replicate"]
    assert [each.provider for each in in_order(both, rules("cheapest"), long, JOB, {})[0]] == ["replicate", "fal"]


@pytest.mark.parametrize(
    ("known", "order", "reason"),
    [
        (
            paces(Latency(12.2, 40), Latency(30, 8)),
            ["fal", "replicate"],
            ": fal 12 s over 40 runs, replicate 30 s over 8",
        ),
        (
            paces(Latency(30, 8), Latency(1.25, 1)),
            ["replicate", "fal"],
            ": replicate 1.2 s over 1 run, fal 30 s over 8",
        ),
        (paces(None, Latency(99, 3)), ["replicate", "fal"], ": replicate 99 s over 3 runs, fal not timed yet"),
        (paces(), ["fal", "replicate"], ", but none of these was timed yet: the listed order"),
    ],
)
def test_the_fastest_goes_first_and_the_unknown_last(known: Latencies, order: list[str], reason: str) -> None:
    routes, why = in_order([route("fal"), route("replicate")], rules("fastest"), PAD, JOB, known)
    assert [each.provider for each in routes] == order
    assert why == f"fastest first{reason}, as the request asks"


def test_the_latency_of_an_endpoint_says_nothing_about_others_of_its_provider() -> None:
    known: Latencies = {("replicate", "replicate/other"): Latency(1, 100)}
    routes, _ = in_order([route("fal"), route("replicate")], rules("fastest"), PAD, JOB, known)
    assert [each.provider for each in routes] == ["fal", "replicate"]


def test_the_listed_order_is_described_with_its_source() -> None:
    listed = [route("replicate"), route("fal")]
    assert in_order(listed, rules("listed"), PAD, JOB, {}) == (
        tuple(listed),
        "the listed order, as MUSIC_PROVIDER says",
    )


def test_a_draw_is_described_with_the_weights_and_the_result() -> None:
    routes, why = in_order([route("fal"), route("replicate")], rules("weights", {"replicate": 2}), PAD, JOB, {})
    assert [each.provider for each in routes] == ["replicate", "fal"]
    assert why == "by weights replicate 2: replicate was drawn, as the request asks"


def test_without_a_usable_weight_the_listed_order_is_kept() -> None:
    _, why = in_order([route("fal")], rules("weights", {"replicate": 2}), PAD, JOB, {})
    assert why == "by weights, but none of these has one: the listed order, as the request asks"


def drawn_first(weights: dict[Provider, float], jobs: int) -> Counter[str]:
    both = [route("fal"), route("replicate")]
    ids = (str(UUID(int=n, version=5)) for n in range(jobs))
    return Counter(in_order(both, rules("weights", weights), PAD, job, {})[0][0].provider for job in ids)


@pytest.mark.parametrize(("fal", "replicate"), [(3, 1), (1, 1), (1, 9), (0.25, 0.75), (1_000_000, 1)])
def test_over_many_jobs_each_is_first_in_proportion_to_its_weight(fal: float, replicate: float) -> None:
    first = drawn_first({"fal": fal, "replicate": replicate}, 6_000)
    # Five standard deviations, at their maximum.
    assert first["fal"] / 6_000 == pytest.approx(fal / (fal + replicate), abs=0.033)


def test_a_route_of_weight_zero_is_never_first() -> None:
    assert drawn_first({"fal": 0, "replicate": 0.001}, 500) == {"replicate": 500}


weighings = st.dictionaries(st.sampled_from(("fal", "replicate")), st.floats(0, 1_000_000), max_size=2)
prices = st.none() | st.floats(0, 10)
times = st.none() | st.builds(Latency, st.floats(0, 1_000), st.integers(1, 1_000))


@given(
    st.sampled_from(("listed", "weights", "cheapest", "fastest")),
    st.permutations(("fal", "replicate")),
    st.integers(0, 2),
    weighings,
    st.tuples(prices, prices),
    st.tuples(times, times),
    st.uuids(),
)
def test_every_order_is_a_permutation_and_is_the_same_in_a_replay(
    route_by: RouteBy,
    providers: list[Provider],
    count: int,
    weights: dict[Provider, float],
    usd: tuple[float | None, float | None],
    known: tuple[Latency | None, Latency | None],
    job: UUID,
) -> None:
    listed = [route(provider, price) for provider, price in zip(providers, usd, strict=True)][:count]
    ruling = rules(route_by, weights)
    routes, why = in_order(listed, ruling, PAD, str(job), paces(*known))
    assert sorted(each.provider for each in routes) == sorted(each.provider for each in listed)
    assert in_order(listed, ruling, PAD, str(job), paces(*known)) == (routes, why)
