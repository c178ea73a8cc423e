"""Reads the output files from the results of models, in all their shapes; other links are not taken."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from adapter_kit.http.bounded_json import CUT
from adapter_kit.port.outcomes import Output, OutputPending, Produced, Unreadable
from adapter_kit.results.choose_outputs import read_outputs

A, B, C = "https://files.example/a.wav", "https://files.example/b.wav", "https://files.example/c"
PNG, FILM = "https://files.example/cover.png", "https://files.example/film.mp4"
DATA = "data:audio/wav;base64,UklGRiQAAABXQVZF"


def urls(answer: Any, modality: Any = "music", asked: Any = None) -> list[str]:
    outcome = read_outputs(answer, modality, "raw", asked)
    return [output.url for output in outcome.outputs] if isinstance(outcome, Produced) else []


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
        ([C, C + "2"], "image", (Output(C), Output(C + "2"))),
        ({"audio": {"url": A, "content_type": "a\nb"}}, "music", (Output(A),)),
        ({"audio": {"url": A, "content_type": 7}}, "music", (Output(A),)),
    ],
)
def test_known_shapes_are_read(answer: Any, modality: Any, expected: tuple[Output, ...]) -> None:
    assert read_outputs(answer, modality, "raw") == Produced(expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # Under unknown keys, nested, in lists, in texts.
        ({"foo": C}, [C]),
        ({"result": {"audio": {"url": A}}}, [A]),
        ({"output": [{"files": [[{"href": A}], [{"href": B}]]}]}, [A, B]),
        ({"data": {"items": [{"attributes": {"media": {"uri": C}}}]}}, [C]),
        ([[A]], [A]),
        ([A, None, "", {}], [A]),
        ([None, {"audio": A}], [A]),
        (json.dumps({"audio": {"url": A}}), [A]),
        ({"payload": json.dumps({"audio": json.dumps({"url": A})})}, [A]),
        ({"result": "  [\"" + A + "\"]"}, [A]),
        ({"audioUrl": C}, [C]),
        ({"Audio-File": {"downloadUrl": C}}, [C]),
        ({"generated_song": {"mp3Url": C}, "wallpaper": PNG}, [C]),
        ({"message": f"Your song is ready: {A}."}, [A]),
        ({"html": f'<audio controls src="{A}"></audio>'}, [A]),
        ({"markdown": f"[Listen]({A}) ![cover]({PNG})"}, [A]),
        # Order is kept, repeats are dropped.
        ({"tracks": [{"audio_url": B}, {"audio_url": A}, {"audio_url": B}]}, [B, A]),
        ({"audio": A, "audio_url": A, "files": [A]}, [A]),
        ({"audio": {"url": A}, "stems": {"vocals": {"url": B}, "drums": "https://files.example/d.flac"}},
         [A, B, "https://files.example/d.flac"]),
        # The right kind wins: by key, by type, by extension, by a data URL's type.
        ({"audio": C, "image": C + "2"}, [C]),
        ({"files": [{"url": C, "mime_type": "image/png"}, {"url": C + "2", "mimeType": "audio/mpeg"}]}, [C + "2"]),
        ({"files": [PNG, A, FILM, "https://files.example/notes.json"]}, [A]),
        ({"files": ["https://x.example/get?file=a.mp3&sig=b.c", C]},
         ["https://x.example/get?file=a.mp3&sig=b.c", C]),
        ({"files": ["https://x.example/get?file=a.mp3"], "page": C}, ["https://x.example/get?file=a.mp3"]),
        ({"to": "https://x.example/api/callbacks/fal/a.1/abc", "at": "https://queue.fal.run/x/1", "song": C}, [C]),
        ({"files": [{"url": C, "file_name": "song.mp3"}, {"url": C + "2", "file_name": "song.json"}]}, [C]),
        ({"a": "data:image/png;base64,iVBORw0KGgo=", "b": DATA}, [DATA]),
        ({"track": {"url": C, "content_type": "application/octet-stream"}, "extra": C + "2"}, [C]),
        # A video only where there is no audio, and a file of unknown kind only where there is neither.
        ({"video": FILM, "audio": A}, [A]),
        ({"clip": FILM, "page": C}, [FILM]),
        ({"image": PNG, "thing": C}, [C]),
        # A preview or cover is no output, unless there is nothing else.
        ({"audio": {"url": A, "spectrogram": {"url": PNG}, "waveform_image": PNG, "preview_url": B}}, [A]),
        ({"cover": "https://files.example/cover", "song": A}, [A]),
        ({"preview_audio": A}, [A]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_every_link_is_found_and_the_right_ones_are_taken(answer: Any, expected: list[str]) -> None:
    assert urls(answer) == expected


@pytest.mark.parametrize(
    ("written", "fetched"),
    [
        ("https://files.example/my song.mp3", "https://files.example/my%20song.mp3"),
        (" \nhttps://files.example/a.mp3\t", A.replace("wav", "mp3")),
        ("HTTPS://files.example/A.mp3", "https://files.example/A.mp3"),
        ("HtTp://files.example/a.mp3", "http://files.example/a.mp3"),
        ("//files.example/a.mp3", "https://files.example/a.mp3"),
        ("https://files.example/a%20b.mp3?x=%2F", "https://files.example/a%20b.mp3?x=%2F"),
        ("https://files.example/100%.mp3", "https://files.example/100%25.mp3"),
        ("https://files.example/Größe<1>.mp3", "https://files.example/Gr%C3%B6%C3%9Fe%3C1%3E.mp3"),
        ('https://files.example/a"b{c}|d\\e^f`.mp3', "https://files.example/a%22b%7Bc%7D%7Cd%5Ce%5Ef%60.mp3"),
        (
            "https://files.example/a.mp3?name=my song&sig=a+b/c==",
            "https://files.example/a.mp3?name=my%20song&sig=a+b/c==",
        ),
        ("https://files.example:8443/a.mp3#t=1", "https://files.example:8443/a.mp3#t=1"),
        ("https://files.example/" + "a" * 5000 + ".mp3", "https://files.example/" + "a" * 5000 + ".mp3"),
        ("https://[2606:4700::1]/a.mp3", "https://[2606:4700::1]/a.mp3"),
        (f"  {DATA}\n", DATA),
        (DATA.replace("data:", "DATA:"), DATA.replace("data:", "DATA:")),
        ("data:audio/mpeg;charset=utf-8;base64,SUQz", "data:audio/mpeg;charset=utf-8;base64,SUQz"),
        ("data:,RIFF", "data:,RIFF"),
        (f"{DATA[:30]}\x00\ud800{DATA[30:]}", DATA),
    ],
)
def test_links_are_normalized(written: str, fetched: str) -> None:
    assert urls(written) == urls({"audio": {"url": written}}) == urls([written]) == [fetched]


def test_plain_base64_of_a_file_becomes_a_data_url() -> None:
    samples = Path(__file__).parents[1] / "media" / "samples"
    for name in ("a.mp3", "a.flac", "opus.ogg"):
        code = base64.b64encode((samples / name).read_bytes()).decode()
        (url,) = urls({"audio": code, "id": "x" * 300})
        assert url.startswith("data:audio/")
        assert url.endswith(code)
    assert urls({"audio": "A" * 4000}) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"audio": None, "reference_audio_url": A},
        {"audio": None, "input": {"audio": A}, "inputs": [A], "reference": A},
        {"audio": {}, "request": {"song": A}, "arguments": {"audio_url": A}},
        {"audio": [], "webhook": A, "webhook_url": A, "callbackUrl": A},
        {"audio": "", "urls": {"get": A, "cancel": A, "stream": A}},
        {"audio": None, "status_url": A, "response_url": A, "cancel_url": A, "logs": f"wrote {A}"},
        {"audio": None, "source_audio": A, "init_audio": A, "prompt_audio_url": A, "original_audio_url": A},
    ],
)
def test_inputs_and_addresses_of_the_api_are_no_outputs(answer: Any) -> None:
    assert isinstance(read_outputs(answer, "music", "raw"), OutputPending)


@pytest.mark.parametrize(
    "answer",
    [
        {"urls": [A]},
        {"urls": {"audio": A}},
        {"original_audio": A},
        {"original_audio": C},
        {"source_url": A},
        {"source_audio": {"url": A}},
        {"response_url": A},
        {"guide_vocals": A},
        {"control_audio": A},
        {"web": A},
        {"next": A},
        {"request": {"audio": A}},
        {"params": {"result": {"url": C, "content_type": "audio/mpeg"}}},
        {A: True},
        {"files": {A: {"size": 7}}},
    ],
    ids=str,
)
def test_the_only_link_is_taken_even_under_a_key_usual_for_inputs(answer: Any) -> None:
    assert urls(answer) in ([A], [C])


def test_a_link_under_a_key_usual_for_inputs_is_ignored_beside_any_other() -> None:
    assert urls({"original_audio": A, "song": B}) == [B]
    assert urls({"request": {"audio": A}, "thing": C}) == [C]
    assert urls({"response_url": A, "clip": FILM}) == [FILM]


@pytest.mark.parametrize("answer", [{"original_audio": B}, {"source_audio": {"url": B}}, {"request": {"audio": B}}])
def test_a_link_under_such_a_key_is_unreadable_if_the_request_contained_a_file(answer: Any) -> None:
    assert isinstance(read_outputs(answer, "music", "raw", {"reference_audio": A}), Unreadable)


@pytest.mark.parametrize(
    "answer",
    [
        {"source_url": "https://files.example/abc"},
        {"original_image": PNG},
        {"prompt_file": "https://files.example/abc", "seed": 7},
        {"audio": {"id": "file-123", "status": "done"}},
        {"audio": {"id": "file-123"}},
        {"audio": {"name": "song.mp3", "content_type": "audio/mpeg"}},
        {"audio": [82, 73, 70]},
        {"audio": {"bytes": [82, 73, 70, 70], "sample_rate": 44100}},
        {"result": {"audio": {"id": "file-123"}}, "message": "done"},
        {"tracks": [{"id": "a", "duration": 30.5}]},
    ],
    ids=str,
)
def test_an_output_without_a_link_that_can_be_fetched_is_unreadable(answer: Any) -> None:
    assert isinstance(read_outputs(answer, "music", "raw"), Unreadable)


@pytest.mark.parametrize(
    ("answer", "instead"),
    [
        ({"audio": None, "waveform_video": FILM}, []),
        ({"audio": None, "file": C}, [C]),
        ({"audio": None, "video": FILM}, [FILM]),
        ({"audio": {"url": None}, "video": {"url": FILM}, "image": PNG}, [FILM]),
        ({"result": {"audio": ""}, "page": C}, [C]),
        ({"audio": [], "preview_audio": A}, []),
        ({"audio": None, "message": f"Listen at {A}"}, []),
        ({"audio": None, "instrumental": True, "file": C}, [C]),
        ({"audio": {"id": "a", "status": "processing"}}, []),
        ({"audio": {"id": "a", "url": None, "duration": 30.5}}, []),
        ({"tracks": [{"id": "a", "audio_url": None}]}, []),
    ],
    ids=str,
)
def test_another_link_beside_an_empty_output_field_is_only_a_substitute(answer: Any, instead: list[str]) -> None:
    outcome = read_outputs(answer, "music", "raw")
    assert isinstance(outcome, OutputPending)
    assert [output.url for output in outcome.instead] == instead


def test_an_empty_output_field_is_ignored_if_the_output_is_elsewhere() -> None:
    assert urls({"audio": None, "files": [A]}) == [A]
    assert urls({"audio": None, "song": {"url": C}}) == [C]
    assert urls({"stems": None, "vocals": None, "file": C}) == [C]
    assert urls({"input": {"audio": None}, "file": C}) == [C]
    assert urls({"image": None, "clip": FILM}) == [FILM]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{A},{B}", [A, B]),
        (f"{A}, {B}", [A, B]),
        (f"{A}|{B}", [A, B]),
        (f"{A};{C}", [A, C]),
        (f"{A}?sig=1,2,{B}?sig=3", [f"{A}?sig=1,2", f"{B}?sig=3"]),
        ("https://files.example/a,b.wav", ["https://files.example/a,b.wav"]),
        ("https://files.example/a|b.wav", ["https://files.example/a%7Cb.wav"]),
        (f"https://x.example/mix?of={A},{B}", [f"https://x.example/mix?of={A},{B}"]),
    ],
)
def test_joined_links_are_split(text: str, expected: list[str]) -> None:
    assert urls(text) == urls({"audio": text}) == urls([text]) == expected


def test_a_link_equal_to_an_input_is_no_output_under_any_key() -> None:
    asked = {"melody": A, "voices": [{"file": B}], "style": "https://files.example/my style.wav"}
    assert urls({"melody": A, "song": C, "voice": B}, asked=asked) == [C]
    assert urls({"echo": "https://files.example/my%20style.wav", "audio": None}, asked=asked) == []


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        [],
        "",
        "  ",
        {"audio": None},
        {"audio": {}},
        {"audio": []},
        {"audio": [None, {}]},
        {"audio": {"url": None}},
        {"audio": {"url": "", "content_type": "audio/mpeg", "file_name": "x.mp3", "file_size": 0}},
        {
            "audio_file": None,
            "audio": None,
            "seed": 7,
            "prompt": "a song",
            "lyrics": "la",
            "timings": {"inference": 1.5},
        },
        {"seed": 3},
        {"prompt": "x", "has_nsfw_concepts": [False], "timings": {}},
        {"result": {"audio": None}},
        {"output": []},
        {"audio": None, "image": {"url": PNG}},
        {"audio": None, "waveform": PNG},
        {"status": "processing", "audio": ""},
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_result_without_content_is_pending(answer: Any) -> None:
    assert isinstance(read_outputs(answer, "music", "raw"), OutputPending)


@pytest.mark.parametrize(
    "answer", [{"images": []}, {"images": None}, {"image": {}}, {"images": [{"url": None}]}, {}, None]
)
def test_a_result_without_images_is_pending(answer: Any) -> None:
    assert isinstance(read_outputs(answer, "image", "raw"), OutputPending)


@pytest.mark.parametrize(
    "answer",
    [
        7,
        True,
        "not a link",
        "file:///etc/passwd",
        "ftp://files.example/a.wav",
        "https://",
        "https://[",
        "https://host:port/a.wav",
        "https:///a.wav",
        "/out/x.wav",
        {"audio": "out.wav"},
        {"audio": {"path": "/out/x.wav", "url": None}},
        {"audio": 7},
        {"audio": {"url": "https://bad host/a.wav"}},
        {"images": [{"url": PNG}]},
        {"detail": "something went wrong"},
        {"foo": "hello world"},
        {"files": [PNG, "https://files.example/lyrics.txt"]},
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_result_without_a_usable_link_is_unreadable_and_kept_raw(answer: Any) -> None:
    outcome = read_outputs(answer, "music", "the raw result")
    assert isinstance(outcome, Unreadable)
    assert outcome.raw == "the raw result"


def test_an_inline_file_that_was_cut_is_unreadable() -> None:
    cut = "data:audio/wav;base64," + "QUJD" * 1000 + CUT.decode()
    answers: list[Any] = [cut, {"audio": {"url": cut}}, [A, cut]]
    for answer in answers:
        assert isinstance(read_outputs(answer, "music", "raw"), Unreadable)


def test_at_most_a_hundred_files_are_taken() -> None:
    many = [f"{A}?n={n}" for n in range(150)]
    assert urls(many) == many[:100]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30)
    | st.sampled_from([f"{DATA}\x00=", f"{DATA}\ud800="])
    | st.sampled_from([A, C, DATA, PNG, "https://", "//", "data:", "https://[::1", "{", "[[", '{"a": "https://x.y/"}']),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["audio", "url", "input", "urls", "x", "type", "images"]), inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


@given(answer=VALUES, modality=st.sampled_from(["music", "image"]))
@settings(max_examples=500, deadline=None)
def test_no_result_raises(answer: Any, modality: Any) -> None:
    outcome = read_outputs(answer, modality, "raw")
    if isinstance(outcome, Produced):
        assert outcome.outputs
        assert b"\\u0000" not in to_json(outcome), "PostgreSQL stores no NUL"
        assert all(output.url.lower().startswith(("https://", "http://", "data:")) for output in outcome.outputs)


def test_hostile_results_are_read_within_bounds() -> None:
    deep: Any = A
    for _ in range(900):
        deep = {"audio": [deep]}
    assert urls(deep) == []
    assert urls("[" * 100_000) == []
    nested = json.dumps({"audio": A})
    for _ in range(12):
        nested = json.dumps({"audio": nested})
    assert len(urls(nested)) <= 1
    assert len(urls({"audio": [f"{A}?{n}" for n in range(100_000)]})) == 100
    assert urls("https://a.example/" * 50_000) == []
