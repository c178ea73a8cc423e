"""The run that a webhook of fal is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_kit.port.outcomes import Callback, ProviderRef
from fal_adapter.reading import read_callback

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
