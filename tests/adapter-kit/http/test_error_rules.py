"""The error rules that both providers share: quoted input, fields by name, and the callback address."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapter_kit.http.answer import Answer
from adapter_kit.http.error_rules import Evidence, Row, echoes_in, judge, texts_in
from adapter_kit.port.outcomes import Failure
from contracts.failures import FailureKind as Kind
from fal_adapter.errors import fal_failure
from replicate_adapter.errors import api_failure

ASKED = ["a calm song about rivers and hills in the spring, with a piano", "la la la"]
POLICY, MISTAKE, UNKNOWN, CALLBACK = Kind.CONTENT_POLICY, Kind.INVALID_INPUT, Kind.UNKNOWN, Kind.CALLBACK_REFUSED
JUDGES = pytest.mark.parametrize("judged", [fal_failure, api_failure], ids=["fal", "replicate"])


def kind_of(judged: Callable[..., Failure], status: int, body: Any, asked: Sequence[str] = ()) -> Kind:
    return judged(Answer(status, {}, json.dumps(body).encode()), echoed=asked).kind


@JUDGES
@pytest.mark.parametrize("status", [400, 403, 422, 500])
@pytest.mark.parametrize("asked", [(), ASKED], ids=["", "asked"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"lyrics": ["Ensure this field has no more than 600 characters."]}, MISTAKE),
        ({"prompt": "This field may not be blank."}, MISTAKE),
        ({"errors": {"prompt": "NSFW content detected"}}, POLICY),
        ({"errors": {"input": {"prompt": ["Your prompt contains sensitive words"]}}}, POLICY),
        ({"detail": {"prompt": ["Your prompt was flagged by our content policy"]}}, POLICY),
        ({"detail": {"duration": ["Ensure this value is less than or equal to 190."]}}, MISTAKE),
        ({"error": {"lyrics": "too long, at most 600 characters"}}, MISTAKE),
        ({"errors": [{"field": "lyrics", "message": "must be at most 600 characters"}]}, MISTAKE),
        ({"errors": {"reference_audio_url": ["Unable to access the provided audio URL"]}}, MISTAKE),
        ({"message": "Validation failed", "errors": {"lyrics": ["The lyrics field is required."]}}, MISTAKE),
    ],
)
def test_an_error_under_the_name_of_a_field_is_about_that_field(
    judged: Callable[..., Failure], status: int, asked: Sequence[str], body: Any, kind: Kind
) -> None:
    assert kind_of(judged, status, body, asked) is kind


@JUDGES
@pytest.mark.parametrize(
    "body",
    [
        {"detail": "odd", "input": {"prompt": "NSFW content detected"}},
        {"detail": "odd", "prompt": "NSFW content detected"},
        {"detail": "odd", "lyrics": ["NSFW content detected, said the censor"]},
        {"detail": {"prompt": "NSFW content detected, said..."}},
        {"error": {"message": "odd", "input": "NSFW content detected"}},
        {"error": "odd", "arguments": ["NSFW content detected, said the censor"]},
        {"error": "odd", "suggested_prompt": "content that is not NSFW"},
    ],
)
def test_input_repeated_in_an_error_is_ignored(judged: Callable[..., Failure], body: Any) -> None:
    assert kind_of(judged, 400, body, ["NSFW content detected, said the censor"]) is UNKNOWN


def test_lyrics_in_a_result_are_not_an_error() -> None:
    assert texts_in({"audio": None, "lyrics": ["NSFW content detected"], "error": "x"}) == ("x",)
    assert echoes_in({"lyrics": "la la", "errors": {"prompt": ["too long a prompt"]}}, ()) == ("la la",)


@JUDGES
@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "words",
    [
        "`webhook` must be a valid https URL",
        "Invalid value for webhook",
        "Invalid field: webhook",
        "Webhooks must use HTTPS",
        "HTTPS is required for webhooks",
        "webhook host is not allowed",
        "Webhook domain blocked",
        "Unable to reach webhook",
        "Could not validate webhook https://gw.example/api/callbacks/x/1",
        "Invalid webhook_events_filter",
        "The webhook URL resolves to a private address, which is not allowed",
        "callback_url must be https",
        "Webhook URL too long",
        "Failed to verify webhook",
    ],
)
def test_an_error_about_the_callback_address_is_callback_refused(
    judged: Callable[..., Failure], status: int, words: str
) -> None:
    assert kind_of(judged, status, {"detail": words}) is CALLBACK
    assert kind_of(judged, status, {"message": words}) is CALLBACK, "in any field"


@JUDGES
@pytest.mark.parametrize(
    "words",
    ["the prompt about a webhook is too long", "lyrics must not name a webhook", "input.webhook is required"],
)
def test_an_error_about_a_webhook_of_the_caller_is_the_callers_mistake(
    judged: Callable[..., Failure], words: str
) -> None:
    assert kind_of(judged, 422, {"detail": words}) is MISTAKE


@JUDGES
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (404, "Voice abc not found", MISTAKE),
        (404, "The reference audio was not found", MISTAKE),
        (404, "model input file not found", UNKNOWN),
        (404, "nothing here", UNKNOWN),
        (404, "Not Found", Kind.MODEL_NOT_FOUND),
        (404, "Path /foo not found", Kind.MODEL_NOT_FOUND),
        (404, "Model x/y does not exist", Kind.MODEL_NOT_FOUND),
        (404, "The requested model could not be found", Kind.MODEL_NOT_FOUND),
        (404, "No such model: x/y", Kind.MODEL_NOT_FOUND),
        (404, "Version abc123 not found", Kind.MODEL_NOT_FOUND),
        (403, "Prompt not allowed", POLICY),
        (403, "rate limit exceeded", UNKNOWN),
        (403, "Request forbidden by administrative rules", UNKNOWN),
        (403, "Forbidden", UNKNOWN),
        (403, "You do not have permission to perform this action.", Kind.FORBIDDEN),
        (403, "Your API key may not use this model", Kind.FORBIDDEN),
        (403, "This model requires an enterprise plan", Kind.FORBIDDEN),
    ],
)
def test_only_an_error_about_all_callers_opens_the_breaker_of_an_endpoint(
    judged: Callable[..., Failure], status: int, words: str, kind: Kind
) -> None:
    assert kind_of(judged, status, {"detail": words}) is kind


ECHO = "A protest song: NSFW content detected, cried the censor; "


@pytest.mark.parametrize(
    "message", [ECHO * 20_000, ECHO[:20] * 50_000, "x" + ECHO * 3_500], ids=["1M", "begins", "200k"]
)
def test_a_long_message_is_read_in_bounded_time(message: str) -> None:
    rows = [Row(Kind.FORBIDDEN, says=f"no{n}") for n in range(50)]
    began = time.process_time()
    failure = judge(rows, Evidence(message, 400, echoed=(ECHO * 3, *(f"{ECHO}{n}" for n in range(90)))))
    assert failure.kind is UNKNOWN
    assert time.process_time() - began < 1
