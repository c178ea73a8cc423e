"""The shapes in which models hand out their files."""

from typing import Any

import pytest

from adapter_kit.outcomes import Output
from adapter_kit.outputs import outputs_of

A, B = "https://files.example/a.wav", "https://files.example/b.wav"


@pytest.mark.parametrize(
    ("answer", "modality", "expected"),
    [
        ({"audio": {"url": A, "content_type": "audio/wav", "file_size": 7}}, "music", (Output(A, "audio/wav"),)),
        ({"audio_file": {"url": A}}, "music", (Output(A),)),
        ({"audio": A, "lyrics": "la", "seed": 1}, "music", (Output(A),)),
        ({"video": {"url": A}}, "music", (Output(A),)),
        ({"images": [{"url": A, "width": 1}, {"url": B}], "prompt": "x"}, "image", (Output(A), Output(B))),
        ({"image": {"url": A}}, "image", (Output(A),)),
        ({"images": [{"url": B}], "audio": {"url": A}}, "music", (Output(A),)),
        ({"url": A, "content_type": "audio/wav"}, "music", (Output(A, "audio/wav"),)),
        (A, "music", (Output(A),)),
        ([A, B], "image", (Output(A), Output(B))),
        ({"audio": {"url": A, "content_type": "a\nb"}}, "music", (Output(A),)),
        ({"audio": {"url": A, "content_type": 7}}, "music", (Output(A),)),
    ],
)
def test_known_shapes(answer: Any, modality: Any, expected: tuple[Output, ...]) -> None:
    assert outputs_of(answer, modality) == expected


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        [],
        7,
        True,
        "",
        "not a link",
        "data:audio/wav;base64,AAAA",
        "file:///etc/passwd",
        "ftp://files.example/a.wav",
        "https://",
        "https://[",
        "https://files.example/a b",
        "https://files.example/a\r\nx",
        "https://files.example/" + "a" * 5000,
        {"audio": None},
        {"audio": {}},
        {"audio": {"url": None}},
        {"audio": []},
        [A, None],
        [A] * 101,
        [[A]],
        {"result": {"audio": {"url": A}}},
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_output(answer: Any) -> None:
    assert outputs_of(answer, "music") == ()
