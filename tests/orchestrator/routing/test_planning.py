"""The plan of a request by the shipped catalogue and policies, with its reasons."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.builders import job_requested

from contracts.catalogue import UnknownModel, default_catalogue_path, load_catalogue
from contracts.ids import JobId
from contracts.providers.registry import PROVIDERS
from orchestrator.routing.planning import RoutePlan, Routing
from orchestrator.routing.policy import Policies, Policy

JOB = JobId("7d193d61-40a9-5489-906a-2be74ad3f732")
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
CATALOGUE = load_catalogue(default_catalogue_path())
SONG = {"modality": "music", "prompt": "a slow country ballad", "has_vocals": True, "lyrics": "The porch light hums"}


def plan(policies: Policies | None = None, /, **fields: Any) -> RoutePlan:
    request = job_requested(JOB, AT, tenant="acme", **fields)
    return Routing(CATALOGUE, policies or Policies(), "fal", tuple(PROVIDERS)).plan(request, {})


def providers(planned: RoutePlan) -> list[str]:
    return [candidate.provider for candidate in planned.candidates]


def reasons(planned: RoutePlan) -> list[tuple[str, str]]:
    return [(each.provider, each.reason) for each in planned.skipped]


def test_without_policies_music_provider_is_first() -> None:
    planned = plan()
    assert providers(planned) == ["fal", "replicate"]
    assert (planned.because, planned.max_cost_usd, planned.skipped) == (
        "the listed order, as MUSIC_PROVIDER says",
        None,
        (),
    )


def test_the_price_of_the_request_orders_its_candidates() -> None:
    planned = plan(model="music/elevenlabs", route_by="cheapest")
    assert providers(planned) == ["replicate", "fal"]
    assert planned.because == "cheapest first: replicate $0.166 before fal $0.80, as the request asks"


def test_a_substitute_is_left_out_if_only_the_same_model_is_allowed() -> None:
    planned = plan(model="music/minimax-2", input=SONG, same_model_only=True)
    assert providers(planned) == ["fal"]
    assert reasons(planned) == [("replicate", "another model stands in there, and same_model_only is set")]
    assert providers(plan(model="music/minimax-2", input=SONG)) == ["fal", "replicate"]


def test_a_route_above_the_ceiling_is_left_out_with_the_figures() -> None:
    planned = plan(model="music/elevenlabs", max_cost_usd=0.5)
    assert providers(planned) == ["replicate"]
    assert reasons(planned) == [("fal", "$0.80 would pass the ceiling of $0.50")]
    assert planned.max_cost_usd == 0.5
    assert planned.because == "the listed order, as MUSIC_PROVIDER says; at most $0.50, as the request asks"


def test_a_route_without_a_price_is_left_out_under_a_ceiling() -> None:
    planned = plan(model="music/lyria-2", max_cost_usd=100.0)
    assert planned.candidates == ()
    why = "its price is not known, so it may pass the ceiling of $100.00"
    assert reasons(planned) == [("fal", why), ("replicate", why)]
    assert providers(plan(model="music/lyria-2")) == ["fal", "replicate"]


def test_a_request_without_a_model_gets_the_first_that_it_can_afford() -> None:
    planned = plan(max_cost_usd=0.17)
    assert [(candidate.provider, candidate.model) for candidate in planned.candidates] == [
        ("replicate", "music/elevenlabs")
    ]
    assert [provider for provider, _ in reasons(planned)] == ["fal", "replicate", "fal"]


def test_each_reason_against_a_route_is_given() -> None:
    planned = plan(model="music/minimax-2", input=SONG | {"lyrics": "x" * 812}, max_cost_usd=0.01, same_model_only=True)
    assert dict(reasons(planned))["replicate"] == (
        "another model stands in there, and same_model_only is set; lyrics 812 > 600 characters; "
        "$0.03 would pass the ceiling of $0.01"
    )


def test_providers_that_a_policy_leaves_out_are_listed_and_those_that_a_request_leaves_out_are_not() -> None:
    policies = Policies(tenants={"acme": Policy(providers=("replicate",))})
    planned = plan(policies)
    assert providers(planned) == ["replicate"]
    assert planned.because == "the listed order, as the policy of tenant acme says"
    assert reasons(planned) == [("fal", "left out, as the policy of tenant acme says")]
    assert plan(policies, providers=["fal"]).skipped == ()
    assert providers(plan(policies, providers=["fal"])) == ["fal"]


def test_a_policy_of_a_model_applies_to_that_model_only() -> None:
    policies = Policies(models={"music/elevenlabs": Policy(route_by="cheapest")})
    assert providers(plan(policies, model="music/elevenlabs")) == ["replicate", "fal"]
    assert providers(plan(policies, model="music/stable-audio-2.5")) == ["fal", "replicate"]


def test_an_unknown_model_has_no_plan() -> None:
    with pytest.raises(UnknownModel):
        plan(model="music/none")


@pytest.mark.parametrize("named", [None, ("fal", "replicate")])
def test_a_provider_that_is_not_enabled_is_left_out_with_the_reason(named: tuple[str, ...] | None) -> None:
    request = job_requested(JOB, AT, tenant="acme", providers=named)
    planned = Routing(CATALOGUE, Policies(), "replicate", ("replicate",)).plan(request, {})
    assert providers(planned) == ["replicate"]
    assert reasons(planned) == [("fal", "not enabled (SEGUE_PROVIDERS)")]


def test_a_request_for_a_provider_that_is_not_enabled_has_no_route() -> None:
    request = job_requested(JOB, AT, tenant="acme", providers=("fal",))
    planned = Routing(CATALOGUE, Policies(), "replicate", ("replicate",)).plan(request, {})
    assert providers(planned) == []
    assert {reason for _, reason in reasons(planned)} == {"not enabled (SEGUE_PROVIDERS)"}
