"""The endpoints of both providers: the input that they accept, their output, and its price in USD."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sandbox.http.responses import Provider
from sandbox.models import inputs


@dataclass(frozen=True)
class Sound:
    """One audio file; its length in seconds."""

    seconds: float


@dataclass(frozen=True)
class Pictures:
    """Images of one size in pixels."""

    count: int
    width: int
    height: int


Made = Sound | Pictures


@dataclass(frozen=True)
class Endpoint:
    """One model at one provider; `price` returns USD for an output, `unit` is the provider's unit of billing."""

    provider: Provider
    name: str
    accepts: type[BaseModel]
    makes: Callable[[Any], Made]
    price: Callable[[Made], float]
    unit: tuple[str, float]
    key: str = "audio"
    version: str | None = None


_SIZES = {
    "square_hd": (1024, 1024), "square": (512, 512), "portrait_4_3": (768, 1024), "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768), "landscape_16_9": (1024, 576),
}  # fmt: skip


def _song(lyrics: str) -> Sound:
    # These models take no duration: a song gets longer with its lyrics, up to four minutes.
    return Sound(min(30.0 + len(lyrics) / 20, 240.0))


def _fal_pictures(wanted: inputs.FalFlux) -> Pictures:
    size = wanted.image_size
    width, height = _SIZES[size] if isinstance(size, str) else (size.width, size.height)
    return Pictures(wanted.num_images, width, height)


def _replicate_pictures(wanted: inputs.ReplicateFlux) -> Pictures:
    across, down = map(int, wanted.aspect_ratio.split(":"))
    pixels = 1_048_576 * float(wanted.megapixels)
    width = math.sqrt(pixels * across / down)
    return Pictures(wanted.num_outputs, round(width / 16) * 16, round(width * down / across / 16) * 16)


def _seconds(made: Made) -> float:
    return made.seconds if isinstance(made, Sound) else 0.0


def _megapixels(made: Made) -> int:
    return made.count * math.ceil(made.width * made.height / 1_000_000) if isinstance(made, Pictures) else 0


def _count(made: Made) -> int:
    return made.count if isinstance(made, Pictures) else 1


def _each(usd: float) -> Callable[[Made], float]:
    return lambda made: usd * _count(made)


_MUSICGEN = "671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"

_ALL = (
    Endpoint("fal", "fal-ai/minimax-music/v2", inputs.FalMinimax, lambda i: _song(i.lyrics_prompt), _each(0.03),
             ("audios", 0.03)),
    Endpoint("fal", "fal-ai/minimax-music/v1.5", inputs.FalMinimax15, lambda i: _song(i.prompt), _each(0.03),
             ("audios", 0.03)),
    Endpoint("fal", "fal-ai/stable-audio-25/text-to-audio", inputs.FalStableAudio, lambda i: Sound(i.seconds_total),
             _each(0.20), ("audios", 0.20)),
    Endpoint("fal", "fal-ai/lyria2", inputs.FalLyria, lambda i: Sound(30.0), _each(0.10), ("30 seconds", 0.10)),
    Endpoint("fal", "CassetteAI/music-generator", inputs.FalCassette, lambda i: Sound(i.duration),
             lambda m: 0.02 * math.ceil(_seconds(m) / 60), ("minutes", 0.02), key="audio_file"),
    Endpoint("fal", "fal-ai/elevenlabs/music", inputs.FalElevenlabs,
             lambda i: Sound((i.music_length_ms or 30_000) / 1000),
             lambda m: 0.8 * math.ceil(_seconds(m) / 60), ("minutes", 0.8)),
    Endpoint("fal", "fal-ai/flux/schnell", inputs.FalFlux, _fal_pictures, lambda m: 0.003 * _megapixels(m),
             ("megapixels", 0.003)),
    Endpoint("replicate", "minimax/music-1.5", inputs.ReplicateMinimax, lambda i: _song(i.lyrics), _each(0.03),
             ("files", 0.03)),
    Endpoint("replicate", "stability-ai/stable-audio-2.5", inputs.ReplicateStableAudio, lambda i: Sound(i.duration),
             _each(0.20), ("files", 0.20)),
    Endpoint("replicate", "google/lyria-2", inputs.ReplicateLyria, lambda i: Sound(30.0),
             lambda m: 0.002 * _seconds(m), ("seconds", 0.002)),
    Endpoint("replicate", "elevenlabs/music", inputs.ReplicateElevenlabs, lambda i: Sound(i.music_length_ms / 1000),
             lambda m: 0.0083 * _seconds(m), ("seconds", 0.0083)),
    Endpoint("replicate", "black-forest-labs/flux-schnell", inputs.ReplicateFlux, _replicate_pictures, _each(0.003),
             ("images", 0.003)),
    Endpoint("replicate", "meta/musicgen", inputs.ReplicateMusicgen, lambda i: Sound(i.duration), _each(0.03),
             ("files", 0.03), version=_MUSICGEN),
)  # fmt: skip

ENDPOINTS: Mapping[tuple[Provider, str], Endpoint] = {(e.provider, e.name.lower()): e for e in _ALL}


def find_endpoint(provider: Provider, name: str) -> Endpoint | None:
    """The endpoint of that name, in upper or lower case; None if there is none."""
    return ENDPOINTS.get((provider, name.lower()))
