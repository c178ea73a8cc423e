"""The validation of a track request, and the problems that it reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from contracts.catalogue import default_catalogue_path, load_catalogue
from contracts.generation import Provider
from contracts.ids import JobId, job_id_for, track_id_for
from contracts.messages.requests import JobRequested
from contracts.providers.registry import PROVIDERS
from contracts.text import is_blank, stripped
from gateway.api.error_answers import problem_of
from gateway.http.json_body import field_faults, parse_json, require_json
from gateway.http.problem_document import FieldProblem, Problem
from gateway.intake.errors import ModelNotFound, NoRoute
from gateway.intake.track_request import SEED_REQUEST, TrackRequest, require_route, to_message

CATALOGUE = load_catalogue(default_catalogue_path())


def require(request: TrackRequest, enabled: Sequence[Provider] = tuple(PROVIDERS)) -> None:
    require_route(request, request.music(), CATALOGUE, enabled[0], enabled)


def message_of(request: TrackRequest, job_id: JobId, now: datetime) -> JobRequested:
    fingerprint = request.fingerprint()
    music = request.music()
    return to_message(
        request,
        music,
        job_id,
        track_id_for(job_id),
        "default",
        fingerprint=fingerprint,
        now=now,
        accept_by=now,
        deadline_s=60,
    )


def refusal_of(body: dict[str, Any]) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, json.dumps(body).encode())
    return caught.value


@pytest.mark.parametrize(
    ("change", "field", "limit", "value"),
    [
        ({"duration_s": 601}, "duration_s", {"le": 600.0}, "601"),
        ({"duration_s": 0}, "duration_s", {"gt": 0.0}, "0"),
        ({"duration_s": -(10**400)}, "duration_s", None, "an integer of over 300 digits"),
        ({"duration_s": "20"}, "duration_s", None, "20"),
        ({"duration_s": True}, "duration_s", None, "True"),
        ({"style_strength": 1.5}, "style_strength", {"le": 1.0}, "1.5"),
        ({"has_vocals": 1}, "has_vocals", None, "1"),
        ({"prompt": ""}, "prompt", {"min_length": 1}, ""),
        ({"prompt": "x" * 4001}, "prompt", {"max_length": 4000}, "x" * 100 + "…"),
        ({"prompt": "a\x00b"}, "prompt", None, "a\N{REPLACEMENT CHARACTER}b"),
        ({"prompt": None}, "prompt", None, "None"),
        ({"providers": []}, "providers", {"min_length": 1}, None),
        ({"providers": ["openai"]}, "providers.0", {"expected": "'fal' or 'replicate'"}, "openai"),
        ({"providers": ["fal", "fal"]}, "providers", None, None),
        ({"route_by": "best"}, "route_by", {"expected": "'listed', 'weights', 'cheapest' or 'fastest'"}, "best"),
        ({"weights": {}}, "weights", {"min_length": 1}, None),
        ({"weights": {"fal": 0}}, "weights", None, None),
        ({"weights": {"fal": -1}}, "weights.fal", {"ge": 0.0}, "-1"),
        ({"weights": {"fal": "3"}}, "weights.fal", None, "3"),
        ({"weights": {"openai": 1}}, "weights.openai", {"expected": "'fal' or 'replicate'"}, "openai"),
        ({"route_by": "cheapest", "weights": {"fal": 1}}, "weights", None, None),
        ({"max_cost_usd": 0}, "max_cost_usd", {"gt": 0.0}, "0"),
        ({"max_cost_usd": "1"}, "max_cost_usd", None, "1"),
        ({"same_model_only": 1}, "same_model_only", None, "1"),
        ({"deadline_s": 0.5}, "deadline_s", {"ge": 1.0}, "0.5"),
        ({"metadata": {"k": "v" * 501}}, "metadata.k", {"max_length": 500}, "v" * 100 + "…"),
        ({"metadata": {"k": {"deep": 1}}}, "metadata.k", None, None),
        ({"webhook_url": "http://169.254.169.254/"}, "webhook_url", None, "http://169.254.169.254/"),
        ({"prompt": "   "}, "prompt", None, "   "),
        ({"lyrics": "la"}, "body", None, None),
    ],
)
def test_a_wrong_field_is_named_with_its_limit_and_its_value(
    change: dict[str, Any], field: str, limit: dict[str, Any] | None, value: str | None
) -> None:
    problem = refusal_of({"prompt": "x", **change})
    assert problem.status == 422
    [reported] = problem.members["errors"]
    assert (reported.field, reported.limit, reported.value) == (field, limit, value)
    assert problem.detail.startswith(field)


def test_a_number_too_long_to_be_written_out_is_refused_too() -> None:
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, b'{"prompt": "x", "duration_s": 1' + b"0" * 5000 + b"}")
    assert caught.value.status == 400


def test_several_problems_are_reported_at_once() -> None:
    reported = refusal_of({"duration_s": 700, "colour": "red"}).members["errors"]
    assert {each.field for each in reported} == {"prompt", "duration_s", "colour"}


def test_only_the_first_of_many_problems_are_reported() -> None:
    body = {f"field{n}": n for n in range(1000)}
    assert len(refusal_of(body).members["errors"]) == 20


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"providers": [1] * 100_000}, "providers.0"),
        ({"weights": {f"{n}": 1 for n in range(20_000)}}, "body"),
        ({"metadata": {f"{n}": 1 for n in range(20_000)}}, "body"),
    ],
)
def test_a_large_body_with_nothing_but_problems_is_refused_without_a_list_of_them(
    changes: dict[str, Any], field: str
) -> None:
    listed: list[int] = []

    def faults(model: type[BaseModel], errors: Sequence[ErrorDetails]) -> list[FieldProblem]:
        listed.append(len(errors))
        return field_faults(model, errors)

    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, json.dumps({"prompt": "x", **changes}).encode(), faults)
    [reported] = caught.value.members["errors"]
    assert (caught.value.status, reported.field) == (422, field)
    assert sum(listed) <= 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"prompt": "x"} trailing',
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_body_that_is_not_json_is_a_400(raw: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, raw)
    assert (caught.value.status, caught.value.kind) == (400, "malformed-json")


@pytest.mark.parametrize("raw", [b"null", b"[]", b'"x"', b"3", b'{"prompt": "x", "duration_s": NaN}', b"NaN"])
def test_json_of_another_shape_is_a_422(raw: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse_json(TrackRequest, raw)
    assert caught.value.status == 422


@pytest.mark.parametrize("declared", ["application/json", "application/json; charset=UTF-8", "application/x+json"])
def test_every_content_type_of_json_is_accepted(declared: str) -> None:
    require_json(declared)


@pytest.mark.parametrize(
    "declared", [None, "", "text/plain", "application/jsonp", "application/json; charset=utf-16", "multipart/form-data"]
)
def test_other_content_types_are_a_415(declared: str | None) -> None:
    with pytest.raises(Problem) as caught:
        require_json(declared)
    assert caught.value.status == 415


def test_an_unknown_model_is_reported_with_similar_names() -> None:
    with pytest.raises(ModelNotFound) as caught:
        require(TrackRequest(prompt="x", model="music/minimx-2"))
    problem = problem_of(caught.value)
    assert problem.kind == "unknown-model"
    assert "music/minimax-2" in problem.detail


def test_a_request_without_a_route_is_refused_with_the_reason_of_each_route() -> None:
    wanted = TrackRequest(prompt="a long one", duration_s=20, has_vocals=True, lyrics="la" * 4500)
    with pytest.raises(NoRoute) as caught:
        require(wanted)
    routes = problem_of(caught.value).members["routes"]
    assert {route.provider for route in routes} == {"fal", "replicate"}
    assert all("lyrics 9000 >" in route.reason for route in routes)


def test_a_request_for_the_same_model_only_is_refused_where_another_would_stand_in() -> None:
    song = TrackRequest(
        prompt="a slow ballad",
        has_vocals=True,
        lyrics="la la la la la",
        model="music/minimax-2",
        providers=("replicate",),
    )
    require(song)
    with pytest.raises(NoRoute) as caught:
        require(song.model_copy(update={"same_model_only": True}))
    assert "another model stands in" in problem_of(caught.value).detail


def test_routing_options_are_part_of_the_request_message() -> None:
    steering = {"route_by": "weights", "weights": {"fal": 3.0}, "max_cost_usd": 0.5, "same_model_only": False}
    said = {"providers": ["replicate", "fal"], **steering}
    wanted = parse_json(TrackRequest, json.dumps({"prompt": "x", **said}).encode())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    job_id = job_id_for("default", "steered")
    message = message_of(wanted, job_id, now)
    assert message.model_dump(mode="json", include=set(said)) == said
    silent = message_of(TrackRequest(prompt="x"), job_id, now)
    assert message.fingerprint != silent.fingerprint
    assert silent.model_dump(include=set(said)) == dict.fromkeys(said)


def test_a_request_with_a_prompt_and_a_duration_has_a_route() -> None:
    require(TrackRequest(prompt="Warm ambient pad", duration_s=20))


Bodies = st.fixed_dictionaries(
    {
        "prompt": st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
        .map(stripped)
        .filter(lambda prompt: not is_blank(prompt))
    },
    optional={
        "duration_s": st.integers(1, 600),
        "has_vocals": st.just(True),
        "style_strength": st.sampled_from([0, 0.25, 1]),
        "model": st.just("music/minimax-2"),
        "providers": st.permutations(["fal", "replicate"]),
        "metadata": st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])),
    },
)


@given(body=Bodies, order=st.randoms(use_true_random=False), indent=st.sampled_from([None, 1]), ascii_=st.booleans())
def test_the_fingerprint_does_not_depend_on_the_spelling(
    body: dict[str, Any], order: Any, indent: int | None, ascii_: bool
) -> None:
    keys = list(body)
    order.shuffle(keys)
    other = {key: float(body[key]) if key == "duration_s" else body[key] for key in keys} | {"deadline_s": None}
    first = parse_json(TrackRequest, json.dumps(body).encode()).fingerprint()
    assert (
        parse_json(TrackRequest, json.dumps(other, indent=indent, ensure_ascii=ascii_).encode()).fingerprint() == first
    )


@given(one=Bodies, other=Bodies)
def test_different_requests_have_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    first, second = (parse_json(TrackRequest, json.dumps(body).encode()).fingerprint() for body in (one, other))
    assert (first == second) == same


@pytest.mark.parametrize("named", [None, ("fal", "replicate")])
def test_a_request_that_an_enabled_provider_can_do_is_accepted(named: tuple[Provider, ...] | None) -> None:
    require(TrackRequest.model_validate({**SEED_REQUEST, "providers": named}), ("replicate",))


def test_a_request_that_only_a_disabled_provider_can_do_is_refused_with_the_reason() -> None:
    with pytest.raises(NoRoute) as refused:
        require(TrackRequest.model_validate({**SEED_REQUEST, "providers": ["fal"]}), ("replicate",))
    problem = problem_of(refused.value)
    assert (problem.status, problem.kind) == (422, "no-route")
    assert "fal: not enabled (SEGUE_PROVIDERS)" in problem.detail
