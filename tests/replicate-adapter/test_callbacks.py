"""The run that a webhook of Replicate is about, and whether it has ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_kit.port.outcomes import Output, Produced
from replicate_adapter.reading import read_callback, read_result

ID = "gm3qorzdhgbfurvjtvhg6dckhu"


@pytest.mark.parametrize(
    ("status", "over", "at_work"),
    [
        ("starting", False, False),
        ("processing", False, True),
        ("succeeded", True, False),
        ("failed", True, False),
        ("canceled", True, False),
        ("aborted", True, False),
        ("PAUSED", False, False),
        (None, False, False),
    ],
)
def test_a_webhook_names_its_run(status: str | None, *, over: bool, at_work: bool) -> None:
    urls = {"get": "https://api.replicate.com/v1/predictions/\u0000\ud800"}
    callback = read_callback(json.dumps({"id": ID, "status": status, "output": None, "urls": urls}))
    assert callback is not None
    assert (callback.ref.request_id, callback.ref.urls) == (ID, {})
    assert (callback.over, callback.at_work) == (over, at_work)


@pytest.mark.parametrize("body", ["", "null", "[]", "{}", '{"id": 7}', '{"id": "../x"}', "[" * 100_000, '{"id": "a'])
def test_a_body_without_a_run_is_none(body: str) -> None:
    assert read_callback(body) is None


@pytest.mark.parametrize(
    ("prediction", "outputs"),
    [
        ({"status": "succeeded", "output": "https://files.example/a.wav"}, ["https://files.example/a.wav"]),
        ({"status": "succeeded", "output": None}, None),
        ({"status": "succeeded", "output": "no link"}, None),
        ({"status": "processing", "output": "https://files.example/a.wav"}, None),
        ({"status": "failed", "output": "https://files.example/a.wav"}, None),
        (
            {"status": "succeeded", "output": "https://in.example/a.wav", "input": {"u": "https://in.example/a.wav"}},
            None,
        ),
        ({"output": "https://files.example/a.wav"}, None),
    ],
)
def test_the_outputs_are_read_from_a_prediction_that_has_succeeded(
    prediction: dict[str, Any], outputs: list[str] | None
) -> None:
    expected = Produced(tuple(Output(url) for url in outputs)) if outputs else None
    assert read_result(json.dumps({"id": ID, **prediction}), "music") == expected
