"""The run that a webhook of fal is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_kit.port.outcomes import Callback, Output, Produced, ProviderRef
from fal_adapter.reading import read_callback, read_result

ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"


@pytest.mark.parametrize(
    "rest",
    [
        {"status": "OK", "payload": {"audio": {"url": "https://files.example/a.wav"}}},
        {"status": "OK", "payload": None, "payload_error": "not serializable"},
        {"status": "ERROR", "error": "Invalid status code: 422", "payload": {"detail": []}},
        {},
    ],
)
def test_a_webhook_names_its_run(rest: dict[str, Any]) -> None:
    body = json.dumps({"request_id": ID, "gateway_request_id": "another", **rest})
    assert read_callback(body) == Callback(ProviderRef(ID, {}), over=True)


@pytest.mark.parametrize(
    "body", ["", "null", "[]", '"x"', "{}", '{"request_id": 7}', '{"request_id": "../x"}', "[" * 100_000, '{"gateway_']
)
def test_a_body_without_a_run_is_none(body: str) -> None:
    assert read_callback(body) is None


AUDIO = {"audio": {"url": "https://files.example/a.wav"}}


@pytest.mark.parametrize(
    ("callback", "outputs"),
    [
        ({"status": "OK", "payload": AUDIO}, ["https://files.example/a.wav"]),
        ({"status": "OK", "payload": AUDIO, "error": None, "payload_error": None}, ["https://files.example/a.wav"]),
        ({"status": "OK", "payload": None, "payload_error": "not serializable"}, None),
        ({"status": "OK", "payload": {"audio": None}}, None),
        ({"status": "OK", "payload": AUDIO, "error": "out of memory"}, None),
        ({"status": "OK", "payload": AUDIO, "payload_error": "cut off"}, None),
        ({"status": "ERROR", "payload": AUDIO}, None),
        ({"payload": AUDIO}, None),
        ({"status": "OK", "payload": "https"}, None),
        ({"status": "OK"}, None),
    ],
)
def test_the_outputs_are_read_from_a_callback_that_reports_success(
    callback: dict[str, Any], outputs: list[str] | None
) -> None:
    expected = Produced(tuple(Output(url) for url in outputs)) if outputs else None
    assert read_result(json.dumps({"request_id": ID, **callback}), "music") == expected


def test_a_link_of_the_input_is_no_output() -> None:
    body = json.dumps({"request_id": ID, "status": "OK", "payload": AUDIO})
    assert read_result(body, "music", {"reference": "https://files.example/a.wav"}) is None
