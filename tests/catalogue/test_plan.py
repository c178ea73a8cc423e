"""The plan of a request: the model, the order of its routes, and the reasons for those left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from contracts.catalogue import ASKS, Catalogue, Plan, UnknownModel, ask_of
from contracts.generation import Ask, Provider
from contracts.modalities.image import ImageInput
from contracts.modalities.music import MusicInput

Asked = MusicInput | ImageInput

AMBIENT = MusicInput(prompt="Warm ambient pad", duration_s=20, has_vocals=False, style_strength=0.5)
IMAGE = ImageInput(prompt="A lighthouse")


def music(**given: Any) -> MusicInput:
    return MusicInput(**{"prompt": "Warm ambient pad", "duration_s": 20, **given})


def sung(lyrics: int) -> MusicInput:
    return music(has_vocals=True, lyrics="x" * lyrics)


def endpoints(plan: Plan) -> list[str]:
    return [route.endpoint for route in plan.routes]


def test_the_plan_of_an_instrumental_request(catalogue: Catalogue) -> None:
    plan = catalogue.plan(AMBIENT, None, None, "fal")
    assert plan.model == "music/stable-audio-2.5"
    assert endpoints(plan) == ["fal-ai/stable-audio-25/text-to-audio", "stability-ai/stable-audio-2.5"]
    assert not any(route.substitute for route in plan.routes)
    assert plan.skipped == ()


@pytest.mark.parametrize(
    ("providers", "first", "order"),
    [
        (None, "fal", ["fal", "replicate"]),
        (None, "replicate", ["replicate", "fal"]),
        (("replicate",), "fal", ["replicate"]),
        (("replicate", "fal"), "fal", ["replicate", "fal"]),
        (("fal", "fal"), "replicate", ["fal"]),
        ((), "fal", []),
    ],
)
def test_the_order_of_providers(
    catalogue: Catalogue, providers: Sequence[Provider] | None, first: Provider, order: list[str]
) -> None:
    plan = catalogue.plan(AMBIENT, "music/stable-audio-2.5", providers, first)
    assert [route.provider for route in plan.routes] == order
    assert plan.skipped == ()


def test_a_substitute_keeps_its_providers_place_and_is_marked(catalogue: Catalogue) -> None:
    plan = catalogue.plan(sung(100), "music/minimax-2", None, "replicate")
    assert [(route.provider, route.substitute) for route in plan.routes] == [("replicate", True), ("fal", False)]


@pytest.mark.parametrize(
    ("asked", "ask", "model"),
    [
        (music(), "instrumental", "music/stable-audio-2.5"),
        (music(duration_s=191), "instrumental", "music/elevenlabs"),
        (sung(100), "vocals_with_lyrics", "music/minimax-2"),
        (music(has_vocals=True), "vocals_without_lyrics", "music/elevenlabs"),
        (IMAGE, "image", "image/flux-schnell"),
    ],
)
def test_a_request_without_a_model_gets_the_first_that_can_make_it(
    catalogue: Catalogue, asked: Asked, ask: Ask, model: str
) -> None:
    assert ask_of(asked) == ask
    assert catalogue.plan(asked, None, None, "fal").model == model


def test_every_ask_has_a_default(catalogue: Catalogue) -> None:
    assert set(catalogue.defaults) == set(ASKS)
    assert all(catalogue.defaults.values())


def test_a_route_that_cannot_take_the_lyrics_is_left_out_with_the_reason(catalogue: Catalogue) -> None:
    plan = catalogue.plan(sung(812), None, None, "fal")
    assert plan.model == "music/minimax-2"
    assert endpoints(plan) == ["fal-ai/minimax-music/v2"]
    (skipped,) = plan.skipped
    assert (skipped.provider, skipped.model, skipped.endpoint) == ("replicate", "music/minimax-2", "minimax/music-1.5")
    assert skipped.reason == "lyrics 812 > 600 characters"


def test_a_skipped_model_has_the_reason(catalogue: Catalogue) -> None:
    plan = catalogue.plan(music(duration_s=301), None, None, "fal")
    assert endpoints(plan) == ["fal-ai/elevenlabs/music"]
    assert [(each.endpoint, each.reason) for each in plan.skipped] == [
        ("fal-ai/stable-audio-25/text-to-audio", "duration 301 > 190 seconds"),
        ("stability-ai/stable-audio-2.5", "duration 301 > 190 seconds"),
        ("elevenlabs/music", "duration 301 > 300 seconds"),
    ]


def test_only_the_allowed_providers_count_for_the_default_model(catalogue: Catalogue) -> None:
    assert catalogue.plan(sung(812), None, ["replicate"], "fal") == Plan(
        None, (), catalogue.plan(sung(812), None, ["replicate"], "fal").skipped
    )
    reasons = [each.reason for each in catalogue.plan(sung(812), None, ["replicate"], "fal").skipped]
    assert reasons == ["lyrics 812 > 600 characters"] * 2


def test_a_named_model_is_not_replaced(catalogue: Catalogue) -> None:
    plan = catalogue.plan(music(has_vocals=True), "music/lyria-2", None, "fal")
    assert plan.model == "music/lyria-2"
    assert plan.routes == ()
    assert [each.reason for each in plan.skipped] == ["makes only music without vocals"] * 2


def test_no_route_takes_3001_characters_of_lyrics(catalogue: Catalogue) -> None:
    plan = catalogue.plan(sung(3001), None, None, "fal")
    assert plan.model is None
    assert plan.routes == ()
    assert len(plan.skipped) == 4


@pytest.mark.parametrize(
    ("asked", "model", "message"),
    [
        (AMBIENT, "music/stable-audio-2", "there is music/stable-audio-2.5"),
        (AMBIENT, "minimax", "music/minimax-"),
        (AMBIENT, "zzz", "music/lyria-2"),
        (AMBIENT, "", "no model '' in the catalogue"),
        (AMBIENT, "image/flux-schnell", "'image/flux-schnell' makes image, not music"),
        (IMAGE, "music/lyria-2", "'music/lyria-2' makes music, not image"),
        (IMAGE, "image/flux", "there is image/flux-schnell"),
    ],
)
def test_an_unknown_model_is_reported_with_similar_names(
    catalogue: Catalogue, asked: Asked, model: str, message: str
) -> None:
    with pytest.raises(UnknownModel, match=message):
        catalogue.plan(asked, model, None, "fal")
