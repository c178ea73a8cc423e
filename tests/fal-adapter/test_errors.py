"""The failure kind of each error of fal."""

import json
from typing import Any

import pytest

from adapter_kit.http.answer import Answer
from adapter_kit.http.error_rules import Evidence, places_of
from contracts.failures import FailureKind as Kind
from fal_adapter.errors import FAL_ROWS, ended_without_a_run, fal_failure, run_failure

LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."


def flat(error_type: str, detail: str = "words") -> dict[str, Any]:
    return {"detail": detail, "error_type": error_type}


def listed(*types: str) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", "prompt"], "msg": f"it is {kind}", "type": kind} for kind in types]}


def worded(kind: str, words: str) -> dict[str, Any]:
    return {"detail": [{"loc": ["body"], "msg": words, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}]}


POLICY, CALLBACK = Kind.CONTENT_POLICY, Kind.CALLBACK_REFUSED
SENSITIVE_WORDS = (
    "The prompt could not be submitted. The prompt contains sensitive words that violate Google's Generative AI "
    "Prohibited Use policy."
)
CASES: list[tuple[int, dict[str, str], Any, Kind]] = [
    # Our own start deadline, and the time-outs that are not ours.
    (504, {"x-fal-request-timeout-type": "user"}, flat("request_timeout"), Kind.START_TIMEOUT),
    (504, {"x-fal-request-timeout-type": "user"}, "", Kind.START_TIMEOUT),
    (504, {}, flat("startup_timeout"), Kind.START_TIMEOUT),
    (504, {}, flat("request_timeout"), Kind.RUN_TIMEOUT),
    (504, {}, listed("generation_timeout"), Kind.RUN_TIMEOUT),
    # fal's infrastructure.
    (503, {}, flat("runner_scheduling_failure"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_connection_timeout"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_disconnected"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_connection_refused"), Kind.PROVIDER_ERROR),
    (503, {}, flat("runner_connection_error"), Kind.PROVIDER_ERROR),
    (502, {}, flat("runner_incomplete_response"), Kind.PROVIDER_ERROR),
    (500, {}, flat("runner_server_error"), Kind.PROVIDER_ERROR),
    (500, {}, flat("internal_error"), Kind.PROVIDER_ERROR),
    (500, {"x-fal-error-type": "internal_error"}, "no JSON", Kind.PROVIDER_ERROR),
    (499, {}, flat("client_cancelled"), Kind.CANCELLED_BY_PROVIDER),
    (499, {}, flat("client_disconnected"), Kind.CANCELLED_BY_PROVIDER),
    (400, {}, flat("bad_request"), Kind.INVALID_INPUT),
    # The models.
    (500, {}, listed("internal_server_error"), Kind.MODEL_ERROR),
    (422, {}, listed("no_media_generated"), Kind.MODEL_ERROR),
    (400, {"x-fal-retryable": "true"}, listed("downstream_service_error"), Kind.PROVIDER_ERROR),
    (400, {"x-fal-retryable": "false"}, listed("downstream_service_error"), Kind.PROVIDER_ERROR),
    (500, {}, listed("downstream_service_unavailable"), Kind.PROVIDER_ERROR),
    (422, {"x-fal-retryable": "false"}, listed("content_policy_violation"), Kind.CONTENT_POLICY),
    (422, {}, listed("missing", "content_policy_violation"), Kind.CONTENT_POLICY),
    (422, {}, listed("file_download_error"), Kind.INVALID_INPUT),
    (422, {}, listed("file_too_large"), Kind.INVALID_INPUT),
    (422, {}, listed("image_too_small"), Kind.INVALID_INPUT),
    (422, {}, listed("greater_than_equal"), Kind.INVALID_INPUT),
    (422, {}, listed("sequence_too_long"), Kind.INVALID_INPUT),
    (422, {}, listed("value_error.missing"), Kind.INVALID_INPUT),
    (422, {}, {"detail": "what does content_policy mean"}, Kind.INVALID_INPUT),
    (422, {}, {"detail": "the input is not one that this model can take"}, Kind.INVALID_INPUT),
    # A caller's mistake in the message: without a type, or with a type that only passes on an error from elsewhere.
    (400, {}, {"detail": {"status": "bad_prompt", "message": "x", "data": {"prompt_suggestion": "y"}}}, POLICY),
    (422, {}, {"detail": {"status": "bad_composition_plan", "message": "copyrighted style reference"}}, POLICY),
    (400, {}, {"detail": "Your request was blocked by our moderation system."}, POLICY),
    (400, {}, {"error": {"message": "input new_sensitive (1026)", "type": "server_error"}}, POLICY),
    (400, {}, {"detail": {"error": {"message": SENSITIVE_WORDS, "code": 400}}}, POLICY),
    (400, {}, worded("downstream_service_error", "Your prompt violates the content policy"), POLICY),
    (400, {}, worded("downstream_service_error", "Failure to pass the risk control system"), POLICY),
    (500, {}, worded("downstream_service_unavailable", SENSITIVE_WORDS), POLICY),
    (500, {}, worded("internal_server_error", "NSFW content detected in all outputs"), POLICY),
    (422, {}, worded("no_media_generated", "blocked: the prompt was flagged by our content policy"), POLICY),
    (422, {}, worded("value_error", "Prompt contains banned words: x"), POLICY),
    (500, {}, {"detail": "Internal server error: content policy violation"}, POLICY),
    (500, {}, flat("internal_error", SENSITIVE_WORDS), POLICY),
    (500, {}, "Request Moderated", POLICY),
    (403, {}, {"detail": "Song Description contained artist name"}, POLICY),
    (409, {}, {"message": "Request Moderated"}, POLICY),
    (400, {}, {"detail": "lyrics must be at most 600 characters"}, Kind.INVALID_INPUT),
    (400, {}, worded("downstream_service_error", "invalid params, lyrics is too short"), Kind.INVALID_INPUT),
    (500, {}, {"detail": "prompt must be between 10 and 300 characters"}, Kind.INVALID_INPUT),
    (400, {}, flat("bad_request", "Tags contained artist name: Coldplay"), POLICY),
    # The same words without a mistake of the caller.
    (500, {}, {"detail": "safety checker failed to load"}, Kind.PROVIDER_ERROR),
    (400, {}, {"detail": "the content policy service is unavailable"}, Kind.UNKNOWN),
    (503, {}, flat("runner_disconnected", "NSFW content detected"), Kind.PROVIDER_ERROR),
    (500, {}, {"detail": "This field is required"}, Kind.PROVIDER_ERROR),
    (400, {}, {"detail": "prompt processing failed: worker crashed"}, Kind.UNKNOWN),
    (422, {}, worded("no_media_generated", "This may occur for reasons including unsafe content"), Kind.MODEL_ERROR),
    (500, {}, "<html><body>This request was blocked by our content policy</body></html>", Kind.PROVIDER_ERROR),
    (400, {}, {"detail": "no such option", "input": {"prompt": "NSFW content detected"}}, Kind.UNKNOWN),
    # The type decides at any status, unless the message reports a content policy.
    (400, {}, listed("less_than_equal"), Kind.INVALID_INPUT),
    (500, {}, listed("less_than_equal"), Kind.INVALID_INPUT),
    (400, {}, listed("enum"), Kind.INVALID_INPUT),
    (400, {}, listed("file_download_error"), Kind.INVALID_INPUT),
    (404, {}, listed("unsupported_audio_format"), Kind.INVALID_INPUT),
    (422, {}, worded("file_too_large", "NSFW content detected"), POLICY),
    (404, {}, worded("voice_not_found", "nope"), Kind.INVALID_INPUT),
    # A 422 about the service.
    (422, {}, {"detail": "CUDA out of memory"}, Kind.PROVIDER_ERROR),
    (422, {}, {"detail": "the server is busy"}, Kind.PROVIDER_ERROR),
    (422, {}, {"detail": "Quota exceeded"}, Kind.PROVIDER_ERROR),
    (422, {}, {"detail": "This model has been disabled"}, Kind.PROVIDER_ERROR),
    (422, {}, {"detail": "timeout must be at most 60"}, Kind.INVALID_INPUT),
    # The callback URL is an input of Segue.
    (422, {}, {"detail": [{"loc": ["query", "fal_webhook"], "msg": "invalid URL", "type": "url"}]}, CALLBACK),
    (422, {}, {"detail": "fal_webhook must be a public HTTPS URL"}, CALLBACK),
    (400, {}, {"detail": "Invalid webhook URL"}, CALLBACK),
    (422, {}, {"detail": [{"loc": ["query", "fal_webhook"], "msg": "no", "type": "url_parsing"}]}, CALLBACK),
    (422, {}, worded("value_error", "Invalid webhook URL"), CALLBACK),
    # A model may have an input of that name.
    (422, {}, {"detail": [{"loc": ["body", "callback"], "msg": "Required", "type": "missing"}]}, Kind.INVALID_INPUT),
    (422, {}, {"detail": [{"loc": ["body", "webhook"], "msg": "Invalid webhook", "type": "x"}]}, Kind.INVALID_INPUT),
    (500, {}, {"detail": "the webhook is not a valid URL"}, Kind.PROVIDER_ERROR),
    (413, {}, "<html>Request Entity Too Large</html>", Kind.INVALID_INPUT),
    # The account, the key, the endpoint.
    (401, {}, {"detail": "Authentication is required to access this application."}, Kind.UNAUTHORIZED),
    (402, {}, {"detail": "pay"}, Kind.INSUFFICIENT_BALANCE),
    (403, {}, {"detail": LOCKED}, Kind.INSUFFICIENT_BALANCE),
    (400, {}, {"detail": LOCKED}, Kind.INSUFFICIENT_BALANCE),
    (403, {}, {"detail": "Access to this application is forbidden for this key."}, Kind.FORBIDDEN),
    (403, {}, "<!DOCTYPE html><html><body>Sorry, you have been blocked</body></html>", Kind.UNKNOWN),
    (403, {}, {"detail": "rate limit exceeded"}, Kind.UNKNOWN),
    (404, {}, {"detail": 'Application "x" not found'}, Kind.MODEL_NOT_FOUND),
    (404, {}, {"detail": "nothing of that kind"}, Kind.UNKNOWN),
    (404, {}, {"detail": "The model was removed for violating our content policy"}, Kind.MODEL_NOT_FOUND),
    (410, {}, {"detail": "this model has been retired"}, Kind.MODEL_NOT_FOUND),
    (429, {"x-fal-needs-retry": "1"}, flat("concurrent_requests_limit"), Kind.RATE_LIMITED),
    (429, {}, {"detail": "slow down"}, Kind.RATE_LIMITED),
    # Proxies and undocumented errors.
    (502, {}, "<html>nginx</html>", Kind.PROVIDER_ERROR),
    (520, {}, "<html>cloudflare</html>", Kind.PROVIDER_ERROR),
    (400, {}, {"detail": "something new"}, Kind.UNKNOWN),
    (418, {}, "I'm a teapot", Kind.UNKNOWN),
    (409, {}, {"detail": [{"type": 7, "msg": None}, "odd"]}, Kind.UNKNOWN),
]


def answer(status: int, headers: dict[str, str], body: Any) -> Answer:
    return Answer(status, headers, (body if isinstance(body, str) else json.dumps(body)).encode())


@pytest.mark.parametrize(("status", "headers", "body", "kind"), CASES, ids=lambda value: str(value)[:40])
def test_each_error_has_its_kind(status: int, headers: dict[str, str], body: Any, kind: Kind) -> None:
    failure = fal_failure(answer(status, headers, body))
    assert (failure.kind, failure.http_status) == (kind, status)
    assert 0 < len(failure.message) <= 2000


def test_every_row_decides_a_case() -> None:
    deciding = set()
    for status, headers, body, _ in CASES:
        details = body.get("detail") if isinstance(body, dict) else None
        types = [each.get("type") for each in details if isinstance(each, dict)] if isinstance(details, list) else []
        types += [body.get("error_type")] if isinstance(body, dict) else []
        types += [headers.get("x-fal-error-type")]
        message = body if isinstance(body, str) else str(details)
        places = places_of([each for each in details if isinstance(each, dict)]) if isinstance(details, list) else ()
        own = tuple(each for each in types if isinstance(each, str))
        evidence = Evidence(message, status, headers, own, fields=places)
        deciding |= {next((n for n, row in enumerate(FAL_ROWS) if row.fits(evidence)), None)}
    assert deciding - {None} == set(range(len(FAL_ROWS)))


def test_the_code_and_the_message_of_the_model_are_kept() -> None:
    failure = fal_failure(answer(422, {}, listed("less_than_equal", "missing")))
    assert failure.code == "less_than_equal"
    assert failure.message == "prompt: it is less_than_equal; prompt: it is missing"


def test_a_type_known_from_the_status_alone_counts() -> None:
    failure = fal_failure(answer(500, {}, "Internal Server Error"), "runner_disconnected")
    assert (failure.kind, failure.code) == (Kind.PROVIDER_ERROR, "runner_disconnected")


def test_messages_are_bounded_and_can_be_stored() -> None:
    failure = fal_failure(answer(422, {}, {"detail": "\x00\ud800" + "x" * 5000}))
    assert len(failure.message) == 2000
    assert "\x00" not in failure.message
    failure.message.encode()


def test_the_input_of_the_caller_is_not_interpreted() -> None:
    prompt = "a song about a censor who says: NSFW content detected, content policy violation"
    said = answer(500, {}, {"detail": f"could not render {prompt!r}"})
    assert fal_failure(said, echoed=[prompt]).kind is Kind.PROVIDER_ERROR
    assert fal_failure(said).kind is Kind.CONTENT_POLICY, "without `echoed`, the words count as fal's"


def test_an_error_passed_on_as_an_object_keeps_its_code_and_message() -> None:
    failure = fal_failure(answer(400, {}, {"detail": {"status": "bad_prompt", "message": "names an artist"}}))
    assert (failure.code, failure.message) == ("bad_prompt", "bad_prompt; names an artist")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, worded("invalid_api_key", "Invalid API key"), Kind.PROVIDER_ERROR),
        (402, worded("x", "insufficient balance (1008)"), Kind.PROVIDER_ERROR),
        (403, {"detail": "no permission to use the partner's model"}, Kind.PROVIDER_ERROR),
        (404, worded("not_found", "no such model"), Kind.PROVIDER_ERROR),
        (429, worded("rate_limit", "too many requests to the partner"), Kind.PROVIDER_ERROR),
        # Without known words, the cause may be the caller.
        (403, {"detail": "forbidden by a service of the model's"}, Kind.UNKNOWN),
        (404, worded("not_found", "no such voice"), Kind.INVALID_INPUT),
    ],
)
def test_a_refusal_of_the_model_by_another_service_is_not_about_the_account(status: int, body: Any, kind: Kind) -> None:
    assert run_failure(answer(status, {}, body), {}).kind is kind


OWN = {"x-fal-error-type": "runner_scheduling_failure", "x-fal-request-id": "1"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "proves"),
    [
        (503, OWN, flat("runner_scheduling_failure"), True),
        (503, {"x-fal-request-id": "1"}, flat("runner_connection_refused"), True),
        (500, {"x-fal-error-type": "runner_server_error"}, flat("runner_server_error"), True),
        (504, {"x-fal-request-timeout-type": "user"}, flat("request_timeout"), True),
        (504, {"x-fal-request-timeout-type": "user"}, "", True),
        # Not an answer of fal's platform, or an incomplete one.
        (503, {}, flat("runner_scheduling_failure"), False),
        (503, {"x-fal-error-type": "internal_error"}, flat("runner_scheduling_failure"), False),
        (503, OWN, "<html>nginx</html>", False),
        (503, {"x-fal-request-id": "1"}, {"detail": "no runner"}, False),
        (502, OWN, flat("runner_scheduling_failure"), False),
        # Types after which a run may exist.
        (500, {"x-fal-error-type": "internal_error"}, flat("internal_error"), False),
        (503, {"x-fal-error-type": "runner_disconnected"}, flat("runner_disconnected"), False),
        (503, {"x-fal-error-type": "runner_connection_timeout"}, flat("runner_connection_timeout"), False),
        (503, {"x-fal-error-type": "runner_connection_error"}, flat("runner_connection_error"), False),
        (502, {"x-fal-error-type": "runner_incomplete_response"}, flat("runner_incomplete_response"), False),
        (504, {"x-fal-error-type": "startup_timeout"}, flat("startup_timeout"), False),
        (504, {"x-fal-error-type": "request_timeout"}, flat("request_timeout"), False),
        (500, {"x-fal-request-id": "1"}, listed("internal_server_error"), False),
    ],
)
def test_which_failed_submits_leave_no_run_behind(
    status: int, headers: dict[str, str], body: Any, proves: bool
) -> None:
    assert ended_without_a_run(answer(status, headers, body)) is proves
