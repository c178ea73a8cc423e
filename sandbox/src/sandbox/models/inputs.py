"""The input of each model, as in the providers' published schemas."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class FalMinimax(BaseModel):
    """`fal-ai/minimax-music/v2`."""

    class AudioSetting(BaseModel):
        """The encoding of the song."""

        format: Literal["mp3", "pcm", "flac"] = "mp3"
        sample_rate: int = Field(default=32_000, ge=8_000, le=44_100)
        bitrate: int = Field(default=128_000, ge=32_000, le=256_000)
        channel: Literal[1, 2] = 2

    prompt: str = Field(min_length=10, max_length=300)
    lyrics_prompt: str = Field(min_length=10, max_length=3_000)
    audio_setting: AudioSetting = AudioSetting()


class FalMinimax15(BaseModel):
    """`fal-ai/minimax-music/v1.5`, whose fields have the opposite meaning: `prompt` is the text of the song."""

    prompt: str = Field(min_length=10, max_length=600)
    lyrics_prompt: str = Field(min_length=10, max_length=3_000)
    audio_setting: FalMinimax.AudioSetting = FalMinimax.AudioSetting()


class FalStableAudio(BaseModel):
    """`fal-ai/stable-audio-25/text-to-audio`."""

    prompt: Text
    seconds_total: int = Field(default=190, ge=1, le=190)
    guidance_scale: float = Field(default=1, ge=1, le=25)
    num_inference_steps: int = Field(default=8, ge=4, le=8)
    seed: int | None = None
    sync_mode: bool = False


class FalLyria(BaseModel):
    """`fal-ai/lyria2`."""

    prompt: Text
    negative_prompt: str = "low quality"
    seed: int | None = None


class FalCassette(BaseModel):
    """`CassetteAI/music-generator`."""

    prompt: Text
    duration: int = Field(ge=10, le=180)


class FalElevenlabs(BaseModel):
    """`fal-ai/elevenlabs/music`, which requires a prompt or a plan."""

    prompt: str | None = None
    composition_plan: dict[str, Any] | None = None
    music_length_ms: int | None = Field(default=None, ge=3_000, le=600_000)
    force_instrumental: bool = False
    output_format: str = "mp3_44100_128"
    respect_sections_durations: bool = True


class FalFlux(BaseModel):
    """`fal-ai/flux/schnell`."""

    class Size(BaseModel):
        """A picture's size in pixels."""

        width: int = Field(default=512, ge=1, le=14_142)
        height: int = Field(default=512, ge=1, le=14_142)

    prompt: Text
    image_size: (
        Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"] | Size
    ) = "landscape_4_3"
    num_inference_steps: int = Field(default=4, ge=1, le=12)
    guidance_scale: float = Field(default=3.5, ge=1, le=20)
    num_images: int = Field(default=1, ge=1, le=4)
    seed: int | None = None
    enable_safety_checker: bool = True
    output_format: Literal["jpeg", "png"] = "jpeg"
    acceleration: Literal["none", "regular", "high"] = "none"
    sync_mode: bool = False


class _Strict(BaseModel):
    # Replicate checks JSON types as its OpenAPI schema defines them, and converts nothing.
    model_config = ConfigDict(strict=True)


class ReplicateMinimax(_Strict):
    """`minimax/music-1.5`."""

    lyrics: str = Field(min_length=10, max_length=600)
    prompt: str = Field(min_length=10, max_length=300)
    audio_format: Literal["mp3", "wav", "pcm"] = "mp3"
    sample_rate: Literal[16_000, 24_000, 32_000, 44_100] = 44_100
    bitrate: Literal[32_000, 64_000, 128_000, 256_000] = 256_000


class ReplicateStableAudio(_Strict):
    """`stability-ai/stable-audio-2.5`."""

    prompt: Text
    duration: int = Field(default=190, ge=1, le=190)
    steps: int = Field(default=8, ge=4, le=8)
    cfg_scale: float = Field(default=1, ge=1, le=25)
    seed: int | None = None


class ReplicateLyria(_Strict):
    """`google/lyria-2`."""

    prompt: Text
    negative_prompt: str | None = None
    seed: int | None = None


class ReplicateElevenlabs(_Strict):
    """`elevenlabs/music`."""

    prompt: Text
    music_length_ms: int = Field(default=10_000, ge=5_000, le=300_000)
    force_instrumental: bool = True
    output_format: str = Field(default="mp3_standard", pattern="^(mp3_standard|mp3_high_quality|wav_.+)$")


class ReplicateFlux(_Strict):
    """`black-forest-labs/flux-schnell`."""

    prompt: Text
    aspect_ratio: Literal["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"] = "1:1"
    num_outputs: int = Field(default=1, ge=1, le=4)
    num_inference_steps: int = Field(default=4, ge=1, le=4)
    output_format: Literal["webp", "jpg", "png"] = "webp"
    output_quality: int = Field(default=80, ge=0, le=100)
    go_fast: bool = True
    megapixels: Literal["1", "0.25"] = "1"
    seed: int | None = None
    disable_safety_checker: bool = False


class ReplicateMusicgen(_Strict):
    """`meta/musicgen`, a community model that has to be called with a version."""

    prompt: str = ""
    model_version: Literal["stereo-melody-large", "stereo-large", "melody-large", "large"] = "stereo-melody-large"
    duration: int = Field(default=8, ge=1, le=190)
    classifier_free_guidance: int = 3
    temperature: float = 1
    top_k: int = 250
    top_p: float = 0
    output_format: Literal["wav", "mp3"] = "wav"
    seed: int | None = None
