"""The run that a webhook of Replicate is about, and whether it has ended."""

from __future__ import annotations

import json

import pytest

from replicate_adapter.reading import read_callback

ID = "gm3qorzdhgbfurvjtvhg6dckhu"


@pytest.mark.parametrize(
    ("status", "over"),
    [
        ("starting", False),
        ("processing", False),
        ("succeeded", True),
        ("failed", True),
        ("canceled", True),
        ("aborted", True),
        ("PAUSED", False),
        (None, False),
    ],
)
def test_a_webhook_names_its_run(status: str | None, *, over: bool) -> None:
    urls = {"get": f"https://api.replicate.com/v1/predictions/{ID}"}
    callback = read_callback(json.dumps({"id": ID, "status": status, "output": None, "urls": urls}))
    assert callback is not None
    assert (callback.ref.request_id, callback.ref.urls, callback.over) == (ID, urls, over)


@pytest.mark.parametrize("body", ["", "null", "[]", "{}", '{"id": 7}', '{"id": "../x"}', "[" * 100_000, '{"id": "a'])
def test_a_body_without_a_run_is_none(body: str) -> None:
    assert read_callback(body) is None
