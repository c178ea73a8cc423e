"""The precedence of policies, field by field, and the errors of the policy file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.builders import job_requested

from contracts.catalogue import Catalogue, default_catalogue_path, load_catalogue
from contracts.documents.generate import repository
from contracts.ids import job_id_for
from contracts.messages.requests import JobRequested
from orchestrator.policy_file import PolicyError, load_policies
from orchestrator.routing.policy import Policies, Policy

CATALOGUE: Catalogue = load_catalogue(default_catalogue_path())
MODEL = "music/stable-audio-2.5"


def requested(**fields: Any) -> JobRequested:
    job_id = job_id_for("acme", "policy")
    return job_requested(job_id, datetime(2026, 1, 1, 12, tzinfo=UTC), **{"tenant": "acme"} | fields)


FOUR = Policies(
    default=Policy(max_cost_usd=4, same_model_only=True, route_by="fastest"),
    models={MODEL: Policy(max_cost_usd=3, providers=("replicate",))},
    tenants={"acme": Policy(max_cost_usd=2), "other": Policy(max_cost_usd=9)},
)


def test_each_field_comes_from_the_most_specific_source() -> None:
    rules = FOUR.rules_for(requested(max_cost_usd=1.0), MODEL)
    assert (rules.max_cost_usd.value, rules.max_cost_usd.source) == (1, "the request asks")
    assert rules.providers.value == ("replicate",)
    assert rules.same_model_only


def test_a_tenant_precedes_a_model_and_a_model_the_default() -> None:
    without_tenant = Policies(FOUR.default, FOUR.models)
    assert FOUR.rules_for(requested(), MODEL).max_cost_usd.source == "the policy of tenant acme says"
    assert without_tenant.rules_for(requested(), MODEL).max_cost_usd.source == f"the policy of {MODEL} says"
    assert FOUR.rules_for(requested(tenant="new"), "music/lyria-2").max_cost_usd.source == "the default policy says"


def test_latencies_matter_where_the_request_or_a_policy_that_may_apply_asks_for_the_fastest_route() -> None:
    fastest, cheapest = Policy(route_by="fastest"), Policy(route_by="cheapest")
    assert Policies().may_go_by_latency(requested(route_by="fastest"))
    assert Policies(default=fastest).may_go_by_latency(requested())
    assert Policies(models={MODEL: fastest}).may_go_by_latency(requested())
    assert Policies(tenants={"acme": fastest}).may_go_by_latency(requested())
    assert not Policies(cheapest, tenants={"other": fastest}).may_go_by_latency(requested(route_by="listed"))


def test_without_any_policy_it_is_the_listed_order_without_a_ceiling() -> None:
    rules = Policies().rules_for(requested(), MODEL)
    assert (rules.route_by.value, rules.route_by.source) == ("listed", "MUSIC_PROVIDER says")
    assert (rules.providers.value, rules.max_cost_usd.value, rules.same_model_only) == (None, None, False)


@pytest.mark.parametrize(
    ("fields", "goes_by"),
    [
        ({"weights": {"fal": 1.0}}, "weights"),
        ({"providers": ("fal", "replicate")}, "listed"),
        ({"providers": ("fal", "replicate"), "route_by": "cheapest"}, "cheapest"),
        ({"max_cost_usd": 1.0}, "fastest"),
    ],
)
def test_weights_or_providers_of_a_request_set_the_strategy(fields: dict[str, Any], goes_by: str) -> None:
    assert Policies(Policy(route_by="fastest")).rules_for(requested(**fields), MODEL).route_by.value == goes_by


def test_a_request_can_switch_off_what_a_policy_switches_on() -> None:
    assert not FOUR.rules_for(requested(same_model_only=False), MODEL).same_model_only


def test_the_shipped_example_can_be_loaded() -> None:
    policies = load_policies(repository() / "catalogue" / "routing.example.yaml", CATALOGUE)
    assert policies.default.max_cost_usd == 5
    assert policies.tenants["default"].effective_route_by == "weights"


def test_an_empty_file_has_no_policies(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text("# nothing yet\n")
    assert load_policies(path, CATALOGUE) == Policies()


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("defaults: {}", "routing.yaml:1: the file: unknown key defaults"),
        ("default:\n  route_by: best", "routing.yaml:2: default: route_by: Input should be 'listed'"),
        ("default:\n  max_cost_usd: 0", "routing.yaml:2: default: max_cost_usd: Input should be greater than 0"),
        ("default:\n  max_cost_usd: yes", "routing.yaml:2: default: max_cost_usd: Input should be a valid number"),
        ("default:\n  max_cost_usd: .nan", "routing.yaml:2: default: max_cost_usd: Input should be"),
        ("default: [fal]", "routing.yaml:1: the file: default: Input should be"),
        ("tenants:\n  acme:\n    weight: {fal: 1}", "routing.yaml:3: tenants.acme: unknown key weight"),
        ("tenants:\n  acme:\n    weights: {openai: 1}", "routing.yaml:3: tenants.acme.weights.openai: 'openai': "),
        ("tenants:\n  acme:\n    weights: {fal: 0}", "routing.yaml:3: tenants.acme: weights are all 0"),
        (
            "tenants:\n  acme:\n    route_by: cheapest\n    weights: {fal: 1}",
            "routing.yaml:4: tenants.acme: weights mean nothing where route_by is cheapest",
        ),
        ("default:\n  providers: [fal, fal]", "routing.yaml:2: default: providers names a provider twice"),
        ("default:\n  providers: []", "routing.yaml:2: default: providers: "),
        ("models:\n  music/x: {}", "routing.yaml:2: models: the catalogue has no 'music/x'; it has music/minimax-2"),
        ("default: {}\ndefault: {}", "routing.yaml:2: 'default' is given twice, first on line 1"),
        ("default: {", "routing.yaml:1: "),
        ("- fal", "routing.yaml:1: the file: "),
    ],
)
def test_an_error_is_reported_with_its_line(tmp_path: Path, text: str, reported: str) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policies(path, CATALOGUE)
    assert str(caught.value).splitlines()[0].startswith(reported)


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text("default:\n  route_by: best\nmodels:\n  music/none: {}\n  music/lyria-2:\n    max_cost_usd: -1\n")
    with pytest.raises(PolicyError) as caught:
        load_policies(path, CATALOGUE)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "routing.yaml:2",
        "routing.yaml:4",
        "routing.yaml:6",
    ]


def test_a_missing_file_is_reported_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"SEGUE_ROUTING: .*none\.yaml can't be read"):
        load_policies(tmp_path / "none.yaml", CATALOGUE)
