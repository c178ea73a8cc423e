"""The answers of each provider to keys, models and inputs that it does not accept."""

from typing import Any

import pytest

PROMPT = "A slow ballad about rain"
WORDS = "[Verse]\nRain falls down"


@pytest.mark.parametrize("key", [None, "Key nocolon", "Bearer id:secret", "Key bad:key"])
def test_fal_keys(box: Any, key: str | None) -> None:
    box.settings(bad_keys=["bad:key"])
    box.fal.headers.pop("authorization")
    try:
        answer = box.fal.post("/fal-ai/lyria2", json={"prompt": "x"}, headers={"authorization": key} if key else {})
        probe = box.fal.get("/v1/models/pricing", headers={"authorization": key} if key else {})
    finally:
        box.fal.headers["authorization"] = "Key key-id:key-secret"
    assert answer.status_code == probe.status_code == 401
    assert answer.headers["x-fal-request-id"]
    assert box.totals("fal")["refused"] == 1


@pytest.mark.parametrize("token", ["", "Bearer sk_123", "Token abc"])
def test_replicate_tokens(box: Any, token: str) -> None:
    answer = box.replicate.get("/v1/account", headers={"authorization": token})
    assert answer.status_code == 401
    assert answer.json()["title"] == "Unauthenticated"


def test_unknown_models(box: Any) -> None:
    fal = box.fal_submit("fal-ai/no-such-model")
    assert (fal.status_code, fal.json()) == (404, {"detail": 'Application "no-such-model" not found'})
    assert box.predict("acme/none").json() == {"detail": "The requested resource could not be found.", "status": 404}
    assert box.predict("meta/musicgen").status_code == 404
    version = "671ac645ce5e552cc63a54a2bbff63fcf798043055d2dac5fc9e36a837eedcfb"
    body = {"version": version, "input": {"prompt": "Rain"}}
    made = box.replicate.post("/v1/predictions", json=body)
    assert (made.status_code, made.json()["version"]) == (201, version)
    gone = box.replicate.post("/v1/predictions", json=body | {"version": "0" * 64})
    assert (gone.status_code, gone.json()["title"]) == (422, "Invalid version or not permitted")
    assert box.fal.get("/v1/nowhere").headers["x-fal-request-id"]


def test_fal_reports_a_bad_input_at_the_run_or_at_the_submit(box: Any) -> None:
    given = {"prompt": "x" * 301, "lyrics_prompt": WORDS}
    submitted = box.fal_submit("fal-ai/minimax-music/v2", **given)
    assert submitted.status_code == 200
    assert box.fal_complete(submitted)["error"] == "Invalid status code: 422"
    result = box.fal.get(submitted.json()["response_url"])
    box.settings(fal_validates_at="submit")
    refused = box.fal_submit("fal-ai/minimax-music/v2", **given)
    assert result.status_code == refused.status_code == 422
    assert result.json() == refused.json()
    error = refused.json()["detail"][0]
    assert (error["loc"], error["type"], error["ctx"]) == (["body", "prompt"], "string_too_long", {"max_length": 300})
    assert box.totals("fal") == {"posts": 2, "accepted": 1, "refused": 1, "open": 0, "billed_usd": 0}


@pytest.mark.parametrize(
    ("model", "given", "kind", "detail"),
    [
        ("minimax/music-1.5", {"prompt": PROMPT}, "required", "- input: lyrics is required\n"),
        (
            "minimax/music-1.5",
            {"prompt": PROMPT, "lyrics": "la " * 300},
            "string_lte",
            "- input.lyrics: String length must be less than or equal to 600\n",
        ),
        (
            "stability-ai/stable-audio-2.5",
            {"duration": 191},
            "number_lte",
            "- input.duration: Must be less than or equal to 190\n",
        ),
        (
            "stability-ai/stable-audio-2.5",
            {"duration": "20"},
            "invalid_type",
            "- input.duration: Invalid type. Expected: integer, given: string\n",
        ),
    ],
)
def test_replicate_names_the_field(box: Any, model: str, given: dict[str, Any], kind: str, detail: str) -> None:
    answer = box.predict(model, given=given)
    problem = answer.json()
    assert (answer.status_code, problem["title"], problem["detail"]) == (422, "Input validation failed", detail)
    assert problem["invalid_fields"][0]["type"] == kind


def test_bodies_that_are_not_valid_text_are_answered(box: Any) -> None:
    raw = rb'{"input": {"prompt": "\ud800"}, "webhook": "http://\ud800/"}'
    assert box.replicate.post("/v1/models/google/lyria-2/predictions", content=raw).status_code in (201, 422)
    for content in (b"not json", b"[1]", b'"x"', rb'{"prompt": "\ud800"}'):
        submitted = box.fal.post("/fal-ai/lyria2", content=content)
        box.fal_complete(submitted)
        assert box.fal.get(submitted.json()["response_url"]).status_code in (200, 422)
    assert box.totals("fal")["accepted"] == 4
    assert box.control.get("/jobs").status_code == 200


OUTPUTS: list[tuple[str, dict[str, Any], str]] = [
    ("fal-ai/minimax-music/v2", {"prompt": PROMPT, "lyrics_prompt": WORDS}, "audio"),
    ("fal-ai/minimax-music/v1.5", {"prompt": PROMPT, "lyrics_prompt": WORDS}, "audio"),
    ("fal-ai/stable-audio-25/text-to-audio", {"seconds_total": 3}, "audio"),
    ("fal-ai/lyria2", {}, "audio"),
    ("fal-ai/elevenlabs/music", {"music_length_ms": 3000}, "audio"),
    ("CassetteAI/music-generator", {"duration": 10}, "audio_file"),
    ("cassetteai/music-generator", {"duration": 10}, "audio_file"),
    ("fal-ai/flux/schnell", {"num_images": 2}, "images"),
]


def test_every_fal_endpoint_has_its_own_shape(box: Any) -> None:
    jobs = [(key, box.fal_submit(endpoint, **given)) for endpoint, given, key in OUTPUTS]
    for key, submitted in jobs:
        box.fal_complete(submitted)
        output = box.fal.get(submitted.json()["response_url"]).json()
        assert key in output
        files = output[key] if key == "images" else [output[key]]
        assert all(box.fal.get(file["url"]).headers["content-type"] == file["content_type"] for file in files)


def test_platform_prices_and_past_requests(box: Any) -> None:
    price = box.fal.get("/v1/models/pricing", params={"endpoint_id": "fal-ai/elevenlabs/music"}).json()["prices"][0]
    assert (price["unit_price"], price["unit"], price["currency"]) == (0.8, "minutes", "USD")
    done, failed = box.fal_submit(seed=41), None
    box.fal_complete(done)
    box.fault("fal", times=1, fail="internal_500")
    failed = box.fal_submit(seed=42)
    box.fal_complete(failed)
    box.fault("fal", times=1, stuck_queue=True)
    unfinished = box.fal_submit(seed=43).json()["request_id"]

    def listing(**query: str) -> list[dict[str, Any]]:
        params = {"endpoint_id": "fal-ai/lyria2", "expand": "payloads"} | query
        items: list[dict[str, Any]] = box.fal.get("/v1/models/requests/by-endpoint", params=params).json()["items"]
        return items

    newest = listing()
    assert [item["json_input"]["seed"] for item in newest[:2]] == [42, 41]
    assert newest[0]["status_code"] == 500
    assert newest[1]["json_output"]["audio"]
    assert [i["request_id"] for i in listing(status="error", limit="1")] == [failed.json()["request_id"]]
    assert listing(start="2100-01-01T00:00:00Z") == []
    box.settings(fal_lists_unfinished=True)
    assert [i["ended_at"] for i in listing(request_id=unfinished)] == [None]
    assert box.fal.get("/v1/meta").json() == {"webhook_ip_ranges": ["127.0.0.1/32"]}
