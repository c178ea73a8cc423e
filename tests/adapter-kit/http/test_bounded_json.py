"""JSON of any size is shortened while it arrives, and stays valid."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_kit.http import bounded_json
from adapter_kit.http.bounded_json import BoundedJson

TEXT = st.text(max_size=40) | st.sampled_from(['"', "\\", '\\\\"', "\u00e9\U0001f600", "\x00\n\t", "a" * 200])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)
SPELLINGS = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 2])})


def cut_down(content: bytes, size: int = 65_536, *, cut_short: bool = False) -> tuple[bytes, bool]:
    reader = BoundedJson()
    for at in range(0, len(content), size):
        reader.feed(content[at : at + size])
    return reader.finish(cut_short=cut_short), reader.complete


@given(value=VALUES, spelling=SPELLINGS, size=st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_json_within_the_limit_is_unchanged(value: Any, spelling: Any, size: int) -> None:
    kept, complete = cut_down(json.dumps(value, **spelling).encode("utf-8", "surrogatepass"), size)
    assert json.loads(kept.decode("utf-8", "surrogatepass")) == value
    assert complete


@given(value=VALUES, spelling=SPELLINGS, size=st.integers(1, 50), data=st.data())
@settings(max_examples=150, deadline=None)
def test_json_that_ends_early_is_closed(value: Any, spelling: Any, size: int, data: Any) -> None:
    content = json.dumps(value, **spelling).encode("utf-8", "surrogatepass")
    if content[:1] not in b"{[":
        return
    kept, complete = cut_down(content[: data.draw(st.integers(1, len(content)))], size, cut_short=True)
    json.loads(kept.decode("utf-8", "replace"))
    assert not complete


@given(value=VALUES, spelling=SPELLINGS, size=st.integers(1, 50), least=st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_values_over_the_limit_are_cut_at_the_end_and_the_json_stays_valid(
    value: Any, spelling: Any, size: int, least: int
) -> None:
    content = json.dumps({"first": value, "logs": value, "last": "here"}, **spelling).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in {
            "TEXT_BYTES": least, "SIDE_BYTES": least, "SHARE_BYTES": least, "FILE_BYTES": least, "TOTAL_BYTES": 10_000,
        }.items():  # fmt: skip
            patch.setattr(bounded_json, name, limit)
        kept, _ = cut_down(content, size)
    read = json.loads(kept.decode("utf-8", "surrogatepass"))
    assert list(read) == ["first", "logs", "last"]
    assert read["last"].startswith("here"[:least])


def prediction(**parts: Any) -> dict[str, Any]:
    """A prediction of Replicate, in its order of fields: the logs come before the status."""
    usual = {
        "id": "abc",
        "input": {"prompt": "x"},
        "logs": "",
        "output": "https://a.example/x.mp3",
        "status": "succeeded",
    }
    return {**usual, **parts}


LINES = 'step 1/50: é \\"quoted\\" \n' * 400_000
OBJECTS = [{"message": "step " * 10, "timestamp": "2026-01-01T00:00:00Z"}] * 100_000


@pytest.mark.parametrize(
    ("parts", "complete"),
    [
        ({"logs": LINES * 3}, True),
        ({"logs": OBJECTS}, True),
        ({"metrics": list(range(2_000_000))}, False),
        ({"error": LINES}, True),
        ({"input": {"prompt": LINES}}, True),
        ({"input": {str(n): "x" * 400 for n in range(30_000)}}, False),
        ({"logs": [[[LINES[:5_000_000]] * 3]]}, True),
    ],
    ids=["logs", "objects", "numbers", "error", "prompt", "keys", "nested"],
)
def test_a_field_of_megabytes_leaves_the_others_readable(parts: dict[str, Any], complete: bool) -> None:
    content = json.dumps(prediction(**parts), ensure_ascii=False).encode()
    assert len(content) > 9_000_000
    began = time.process_time()
    kept, all_there = cut_down(content)
    assert time.process_time() - began < 20
    assert len(kept) < 10_000_000
    read = json.loads(kept)
    assert (read["id"], read["output"], read["status"]) == ("abc", "https://a.example/x.mp3", "succeeded")
    assert list(read) == list(prediction(**parts))
    assert all_there is complete


def test_a_file_inside_an_answer_is_kept_whole() -> None:
    code = "QUJD" * 1_500_000
    for text in (f"data:audio/mpeg;base64,{code}", code, f" DATA:;base64,{code}"):
        kept, complete = cut_down(json.dumps(prediction(output=[text], logs=LINES[:1_000_000])).encode())
        assert json.loads(kept)["output"] == [text]
        assert complete
    most = bounded_json.FILE_BYTES
    kept, _ = cut_down(json.dumps(prediction(output=["data:;base64," + "QUJD" * (most // 4)] * 2)).encode())
    assert len(kept) < most + 1_000_000
    assert json.loads(kept)["status"] == "succeeded"


def test_a_list_of_runs_keeps_every_run() -> None:
    runs = [prediction(id=f"run{n}", logs=LINES[:200_000], output=["x" * 300_000] * 3) for n in range(100)]
    kept, complete = cut_down(json.dumps({"next": None, "results": runs}).encode())
    assert [run["id"] for run in json.loads(kept)["results"]] == [run["id"] for run in runs]
    assert all(run["input"] == {"prompt": "x"} for run in json.loads(kept)["results"])
    assert complete


def test_a_list_that_loses_runs_is_reported_incomplete() -> None:
    runs = [prediction(id=f"run{n}", input={"lyrics": "la " * 66_000}) for n in range(100)]
    kept, complete = cut_down(json.dumps({"next": None, "results": runs}).encode())
    assert len(json.loads(kept)["results"]) < 100
    assert not complete


@pytest.mark.parametrize("content", [b"<html>" * 99, b'{"a": ', b'{"a" "b"}', b"}{", b'"\\u12', b"]", b",,"])
def test_invalid_json_stays_invalid(content: bytes) -> None:
    for size in (1, 7, 1000):
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut_down(content, size)[0])
