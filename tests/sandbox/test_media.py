"""Outputs are valid audio and image files."""

import io
import struct
import wave
import zlib
from typing import Any

import pytest


def output(box: Any, model: str, **given: Any) -> Any:
    return box.prediction_ended(box.predict(model, given=given))["output"]


@pytest.mark.parametrize("seconds", [1, 20, 190])
def test_audio_has_the_length_asked_for(box: Any, seconds: int) -> None:
    content = box.fal.get(output(box, "stability-ai/stable-audio-2.5", duration=seconds)).content
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22_050)
        assert file.getnframes() == seconds * 22_050
        middle = file.getnframes() // 2
        file.setpos(middle)
        samples = struct.unpack("<5000h", file.readframes(5_000))
    assert 5_000 < max(samples) < 32_767, "it sounds, and does not clip"


def test_prompts_sound_different_and_the_same_prompt_alike(box: Any) -> None:
    urls = [output(box, "google/lyria-2", prompt=prompt) for prompt in ("Rain", "Rain", "Storm over the sea")]
    rain, again, storm = (box.fal.get(url).content for url in urls)
    assert rain == again != storm


def test_pictures_have_the_size_asked_for(box: Any) -> None:
    submitted = box.fal_submit("fal-ai/flux/schnell", image_size="portrait_16_9")
    box.fal_complete(submitted)
    image = box.fal.get(submitted.json()["response_url"]).json()["images"][0]
    content = box.fal.get(image["url"]).content
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (576, 1024) == (image["width"], image["height"])
    length = struct.unpack(">I", content[33:37])[0]
    assert len(zlib.decompress(content[41 : 41 + length])) == 1024 * (1 + 3 * 576)


def test_downloads_resume(box: Any) -> None:
    url = output(box, "google/lyria-2")
    whole = box.fal.get(url)
    etag, content = whole.headers["etag"], whole.content

    def ask(**headers: str) -> Any:
        return box.fal.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})

    rest = ask(range="bytes=1000-", if_range=etag)
    assert rest.status_code == 206
    assert content[:1000] + rest.content == content
    assert rest.headers["content-range"] == f"bytes 1000-{len(content) - 1}/{len(content)}"
    assert ask(range="bytes=-10").content == content[-10:]
    assert ask(range="bytes=0-9").content == content[:10]
    assert ask(range="bytes=1000-", if_range='"other"').status_code == 200
    assert ask(range=f"bytes={len(content)}-").status_code == 416
    assert ask(if_none_match=etag).status_code == 304
    head = box.fal.head(url)
    assert int(head.headers["content-length"]) == len(content)
    assert head.content == b""
