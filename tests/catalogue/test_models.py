"""The shipped catalogue: the arguments that each route sends, the requests that it refuses, and its price."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.catalogue import Catalogue, Route
from contracts.generation import Provider
from contracts.modalities.image import ImageInput
from contracts.modalities.music import MusicInput
from contracts.providers.registry import PROVIDERS

PROMPT = "Warm ambient pad"
LYRICS = "[verse] Slow light over the water"

Asked = MusicInput | ImageInput


def music(**given: Any) -> MusicInput:
    return MusicInput(**{"prompt": PROMPT, "duration_s": 20, **given})


def image(**given: Any) -> ImageInput:
    return ImageInput(**{"prompt": "A lighthouse", **given})


def sung(lyrics: str = LYRICS, **given: Any) -> MusicInput:
    return music(has_vocals=True, lyrics=lyrics, **given)


def route(catalogue: Catalogue, model: str, provider: Provider) -> Route:
    (found,) = (each for each in catalogue.models[model].routes if each.provider == provider)
    return found


def test_the_catalogue_has_these_models_with_both_routes_each(catalogue: Catalogue) -> None:
    routes = {name: [each.endpoint for each in model.routes] for name, model in catalogue.models.items()}
    assert routes == {
        "music/minimax-2": ["fal-ai/minimax-music/v2", "minimax/music-1.5"],
        "music/minimax-1.5": ["fal-ai/minimax-music/v1.5", "minimax/music-1.5"],
        "music/stable-audio-2.5": ["fal-ai/stable-audio-25/text-to-audio", "stability-ai/stable-audio-2.5"],
        "music/elevenlabs": ["fal-ai/elevenlabs/music", "elevenlabs/music"],
        "music/lyria-2": ["fal-ai/lyria2", "google/lyria-2"],
        "image/flux-schnell": ["fal-ai/flux/schnell", "black-forest-labs/flux-schnell"],
    }
    for model in catalogue.models.values():
        assert tuple(each.provider for each in model.routes) == tuple(PROVIDERS)
        assert {each.model for each in model.routes} == {model.name}
        assert model.name.startswith(f"{model.modality}/")


def test_only_minimax_2_has_a_substitute(catalogue: Catalogue) -> None:
    routes = [each for model in catalogue.models.values() for each in model.routes]
    assert [(each.model, each.provider) for each in routes if each.substitute] == [("music/minimax-2", "replicate")]


SENDS: list[tuple[str, Provider, Asked, dict[str, object]]] = [
    ("music/minimax-2", "fal", sung(), {"prompt": PROMPT, "lyrics_prompt": LYRICS}),
    ("music/minimax-2", "replicate", sung(), {"prompt": PROMPT, "lyrics": LYRICS}),
    ("music/minimax-1.5", "fal", sung(), {"prompt": LYRICS, "lyrics_prompt": PROMPT}),
    ("music/minimax-1.5", "replicate", sung(), {"prompt": PROMPT, "lyrics": LYRICS}),
    ("music/stable-audio-2.5", "fal", music(), {"prompt": PROMPT, "seconds_total": 20, "guidance_scale": 4.0}),
    ("music/stable-audio-2.5", "replicate", music(), {"prompt": PROMPT, "duration": 20, "cfg_scale": 4.0}),
    (
        "music/stable-audio-2.5",
        "fal",
        music(duration_s=0.2, style_strength=0),
        {"prompt": PROMPT, "seconds_total": 1, "guidance_scale": 1.0},
    ),
    (
        "music/stable-audio-2.5",
        "replicate",
        music(duration_s=189.01, style_strength=1),
        {"prompt": PROMPT, "duration": 190, "cfg_scale": 7.0},
    ),
    (
        "music/elevenlabs",
        "fal",
        music(duration_s=20.3),
        {"prompt": PROMPT, "music_length_ms": 20_300, "force_instrumental": True},
    ),
    (
        "music/elevenlabs",
        "replicate",
        music(has_vocals=True),
        {"prompt": PROMPT, "music_length_ms": 20_000, "force_instrumental": False},
    ),
    (
        "music/elevenlabs",
        "fal",
        music(duration_s=1, has_vocals=True),
        {"prompt": PROMPT, "music_length_ms": 3000, "force_instrumental": False},
    ),
    (
        "music/elevenlabs",
        "replicate",
        music(duration_s=1),
        {"prompt": PROMPT, "music_length_ms": 5000, "force_instrumental": True},
    ),
    ("music/lyria-2", "fal", music(), {"prompt": PROMPT, "negative_prompt": "vocals, low quality"}),
    ("music/lyria-2", "replicate", music(), {"prompt": PROMPT, "negative_prompt": "vocals, low quality"}),
    (
        "image/flux-schnell",
        "fal",
        image(aspect_ratio="16:9", num_images=3, seed=7),
        {
            "prompt": "A lighthouse",
            "image_size": "landscape_16_9",
            "num_images": 3,
            "seed": 7,
            "output_format": "jpeg",
        },
    ),
    (
        "image/flux-schnell",
        "replicate",
        image(),
        {
            "prompt": "A lighthouse",
            "aspect_ratio": "1:1",
            "num_outputs": 1,
            "megapixels": "1",
            "output_format": "jpg",
        },
    ),
]


@pytest.mark.parametrize(("model", "provider", "asked", "sent"), SENDS)
def test_the_arguments_that_a_route_sends(
    catalogue: Catalogue, model: str, provider: Provider, asked: Asked, sent: dict[str, object]
) -> None:
    arguments = route(catalogue, model, provider).arguments(asked)
    assert arguments == sent
    # 20 and 20.0 are equal in Python, but a provider that expects an integer refuses the second.
    assert {name: type(value) for name, value in arguments.items()} == {
        name: type(value) for name, value in sent.items()
    }


def test_every_route_is_in_the_table_of_arguments(catalogue: Catalogue) -> None:
    shipped = {(model.name, each.provider) for model in catalogue.models.values() for each in model.routes}
    assert {(model, provider) for model, provider, _, _ in SENDS} == shipped


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("1:1", "square_hd"),
        ("4:3", "landscape_4_3"),
        ("3:4", "portrait_4_3"),
        ("16:9", "landscape_16_9"),
        ("9:16", "portrait_16_9"),
    ],
)
def test_both_providers_get_the_same_aspect_ratio(catalogue: Catalogue, ratio: str, size: str) -> None:
    asked = image(aspect_ratio=ratio)
    assert route(catalogue, "image/flux-schnell", "fal").arguments(asked)["image_size"] == size
    assert route(catalogue, "image/flux-schnell", "replicate").arguments(asked)["aspect_ratio"] == ratio


BOTH = tuple(PROVIDERS)
MINIMAX = ("music/minimax-2", "music/minimax-1.5")


@pytest.mark.parametrize(
    ("models", "providers", "asked", "reason"),
    [
        (MINIMAX, BOTH, sung(), None),
        (MINIMAX, BOTH, music(), "makes only music with vocals; needs lyrics"),
        (MINIMAX, BOTH, music(has_vocals=True), "needs lyrics"),
        (MINIMAX, BOTH, sung(prompt="Jazz"), "prompt 4 < 10 characters"),
        (MINIMAX, BOTH, sung("la la"), "lyrics 5 < 10 characters"),
        (MINIMAX[:1], BOTH, sung(prompt="x" * 301), "prompt 301 > 300 characters"),
        (MINIMAX[1:], ("replicate",), sung(prompt="x" * 301), "prompt 301 > 300 characters"),
        (MINIMAX[1:], ("fal",), sung(prompt="x" * 301), None),
        (MINIMAX, BOTH, sung("x" * 600, prompt="x" * 300), None),
        (MINIMAX[:1], ("fal",), sung("x" * 812), None),
        (MINIMAX[:1], ("replicate",), sung("x" * 812), "lyrics 812 > 600 characters"),
        (MINIMAX[1:], BOTH, sung("x" * 601), "lyrics 601 > 600 characters"),
        (MINIMAX[:1], ("fal",), sung("x" * 3000), None),
        (MINIMAX[:1], ("fal",), sung("x" * 3001), "lyrics 3001 > 3000 characters"),
        (MINIMAX, BOTH, sung(duration_s=600), None),
        (("music/stable-audio-2.5",), BOTH, music(duration_s=190), None),
        (("music/stable-audio-2.5",), BOTH, music(duration_s=190.5), "duration 190.5 > 190 seconds"),
        (("music/stable-audio-2.5", "music/lyria-2"), BOTH, music(has_vocals=True), "makes only music without vocals"),
        (("music/stable-audio-2.5", "music/lyria-2"), BOTH, sung(), "makes only music without vocals; takes no lyrics"),
        (("music/elevenlabs",), BOTH, music(duration_s=300), None),
        (("music/elevenlabs",), ("fal",), music(duration_s=600), None),
        (("music/elevenlabs",), ("replicate",), music(duration_s=301), "duration 301 > 300 seconds"),
        (("music/elevenlabs",), BOTH, music(has_vocals=True), None),
        (("music/elevenlabs",), BOTH, sung(), "takes no lyrics"),
        (("music/lyria-2",), BOTH, music(duration_s=30), None),
        (("music/lyria-2",), BOTH, music(duration_s=31), "duration 31 > 30 seconds"),
        (("image/flux-schnell",), BOTH, image(num_images=4), None),
    ],
)
def test_the_requests_that_a_route_refuses(
    catalogue: Catalogue, models: tuple[str, ...], providers: tuple[Provider, ...], asked: Asked, reason: str | None
) -> None:
    for model in models:
        for provider in providers:
            assert route(catalogue, model, provider).why_not(asked) == reason


def test_lyrics_and_prompts_are_never_truncated(catalogue: Catalogue) -> None:
    for asked in (sung("la " * 3000, prompt="x" * 4000), music(prompt="x" * 4000)):
        for model in catalogue.models.values():
            if model.modality == "music":
                for each in model.routes:
                    texts = [value for value in each.arguments(asked).values() if isinstance(value, str)]
                    assert asked.prompt in texts
                    assert asked.lyrics is None or each.limits.lyrics == "forbidden" or asked.lyrics in texts


@pytest.mark.parametrize(
    ("model", "provider", "asked", "usd"),
    [
        ("music/minimax-2", "fal", sung(), 0.03),
        ("music/minimax-2", "replicate", sung(), 0.03),
        ("music/minimax-1.5", "fal", sung(), 0.03),
        ("music/stable-audio-2.5", "fal", music(duration_s=1), 0.2),
        ("music/stable-audio-2.5", "replicate", music(duration_s=190), 0.2),
        ("music/elevenlabs", "fal", music(duration_s=60), 0.8),
        ("music/elevenlabs", "fal", music(duration_s=60.1), 1.6),
        ("music/elevenlabs", "replicate", music(duration_s=60), 0.498),
        ("music/elevenlabs", "replicate", music(duration_s=5.25), 0.043575),
        # What is sent is 5 s, the least that this endpoint makes.
        ("music/elevenlabs", "replicate", music(duration_s=1), 0.0415),
        ("music/lyria-2", "fal", music(), None),
        ("music/lyria-2", "replicate", music(), None),
        ("image/flux-schnell", "fal", image(num_images=3), 0.009),
        ("image/flux-schnell", "replicate", image(), 0.003),
    ],
)
def test_the_expected_cost_of_a_run(
    catalogue: Catalogue, model: str, provider: Provider, asked: Asked, usd: float | None
) -> None:
    assert route(catalogue, model, provider).expected_cost_usd(asked) == usd


def test_fal_is_never_asked_for_data_uris(catalogue: Catalogue) -> None:
    for model in catalogue.models.values():
        assert all("sync_mode" not in each.takes for each in model.routes)


def test_the_fields_that_a_route_ignores_are_listed(catalogue: Catalogue) -> None:
    ignored = {
        (model.name, each.provider): model.ignored_by(each)
        for model in catalogue.models.values()
        for each in model.routes
    }
    assert ignored["music/stable-audio-2.5", "fal"] == ()
    assert ignored["music/minimax-2", "fal"] == ("duration_s", "style_strength")
    assert ignored["music/elevenlabs", "replicate"] == ("style_strength",)
    assert ignored["image/flux-schnell", "fal"] == ()


def test_the_arguments_are_a_copy_that_the_caller_may_change(catalogue: Catalogue) -> None:
    lyria = route(catalogue, "music/lyria-2", "fal")
    lyria.arguments(music())["negative_prompt"] = "changed"
    assert lyria.arguments(music())["negative_prompt"] == "vocals, low quality"
