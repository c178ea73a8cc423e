"""The failure kind of each error of Replicate."""

import json
from typing import Any

import pytest

from adapter_kit.http.answer import Answer
from adapter_kit.http.error_rules import Evidence
from contracts.failures import FailureKind as Kind
from replicate_adapter.errors import API_ROWS, PREDICTION_ROWS, api_failure, prediction_failure


def problem(title: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "detail": detail, **more}


INVALID = [{"type": "required", "field": "input", "description": "prompt is required"}]
POLICY, MISTAKE, CALLBACK = Kind.CONTENT_POLICY, Kind.INVALID_INPUT, Kind.CALLBACK_REFUSED
WEBHOOK = {"type": "format", "field": "webhook", "description": "Does not match format 'uri'"}
API_CASES: list[tuple[int, Any, Kind]] = [
    (401, problem("Unauthenticated", "You did not pass a valid authentication token"), Kind.UNAUTHORIZED),
    (403, problem("Forbidden", "rate limit exceeded"), Kind.UNKNOWN),
    (404, {"detail": "nothing of that kind"}, Kind.UNKNOWN),
    (422, {"detail": "CUDA out of memory"}, Kind.PROVIDER_ERROR),
    (422, {"detail": "the server is busy"}, Kind.PROVIDER_ERROR),
    (402, problem("Insufficient credit", "You have insufficient credit to run this model."), Kind.INSUFFICIENT_BALANCE),
    (403, problem("Forbidden", "You do not have permission to run this model."), Kind.FORBIDDEN),
    (404, {"detail": "The requested resource could not be found.", "status": 404}, Kind.MODEL_NOT_FOUND),
    (
        422,
        problem("Input validation failed", "- input: prompt is required\n", invalid_fields=INVALID),
        Kind.INVALID_INPUT,
    ),
    (422, problem("Invalid version or not permitted", "The version does not exist"), Kind.MODEL_NOT_FOUND),
    (422, problem("Content flagged", "The input was flagged as sensitive. (E005)"), Kind.CONTENT_POLICY),
    (422, problem("Input validation failed", "- webhook: Does not match format 'uri'\n"), CALLBACK),
    (422, problem("Input validation failed", "", invalid_fields=[WEBHOOK]), CALLBACK),
    (422, {"detail": "- webhook_events_filter.0: must be one of start, output, logs, completed"}, CALLBACK),
    (400, problem("Bad request", "The webhook URL must be HTTPS"), CALLBACK),
    (422, {"detail": "The request was invalid", "invalid_fields": [WEBHOOK]}, CALLBACK),
    (422, {"detail": [{"loc": ["body", "webhook"], "msg": "no", "type": "url"}]}, CALLBACK),
    (422, problem("Input validation failed", "- input.prompt: a song about a webhook is too long"), MISTAKE),
    (422, {"detail": [{"loc": ["body", "input", "webhook"], "msg": "no", "type": "url"}]}, MISTAKE),
    (422, problem("Input validation failed", "- input.prompt: is required", input={"prompt": "webhook: x"}), MISTAKE),
    (422, problem("Input validation failed", "- input.webhook: is required"), MISTAKE),
    (422, problem("Input validation failed", "- input.lyrics: contains prohibited words"), POLICY),
    (400, problem("Bad request", "Your prompt was flagged by our content policy"), POLICY),
    (403, problem("Forbidden", "NSFW content detected"), POLICY),
    (409, {"error": {"message": "input new_sensitive (1026)"}}, POLICY),
    (400, problem("Bad request", "lyrics must be at most 600 characters"), MISTAKE),
    (500, problem("Internal server error", "Request blocked: content policy violation"), POLICY),
    (500, problem("Internal server error", "the content policy service is unavailable"), Kind.PROVIDER_ERROR),
    (422, problem("Insufficient credit", "You have insufficient credit to run this model."), Kind.INSUFFICIENT_BALANCE),
    (403, problem("Forbidden", "Set up billing to run this model."), Kind.INSUFFICIENT_BALANCE),
    (403, "<!DOCTYPE html><html><body>Sorry, you have been blocked</body></html>", Kind.UNKNOWN),
    (410, {"detail": "This version has been disabled"}, Kind.MODEL_NOT_FOUND),
    (413, "<html>Request Entity Too Large</html>", Kind.INVALID_INPUT),
    (429, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, Kind.RATE_LIMITED),
    (500, problem("Internal server error", "An unexpected error occurred."), Kind.PROVIDER_ERROR),
    (502, "<html>cloudflare</html>", Kind.PROVIDER_ERROR),
    (520, "<html>cloudflare</html>", Kind.PROVIDER_ERROR),
    (400, problem("Bad request", "something new"), Kind.UNKNOWN),
    (409, [], Kind.UNKNOWN),
    (418, "I'm a teapot", Kind.UNKNOWN),
]

PREDICTION_CASES: list[tuple[Any, Kind, str | None]] = [
    ("E1000: Unknown error", Kind.PROVIDER_ERROR, "E1000"),
    ("The model took too long to start. (E6716)", Kind.PROVIDER_ERROR, "E6716"),
    ("E8367: stopped in a non-terminal state", Kind.PROVIDER_ERROR, "E8367"),
    ("The model failed its health check. (E8765)", Kind.PROVIDER_ERROR, "E8765"),
    ("E9243: error starting", Kind.PROVIDER_ERROR, "E9243"),
    ("E9825: upload failed", Kind.PROVIDER_ERROR, "E9825"),
    ("Prediction interrupted; please retry (code: PA)", Kind.PROVIDER_ERROR, None),
    ("The input or output was flagged as sensitive. Please try again. (E005)", Kind.CONTENT_POLICY, "E005"),
    ("flagged as sensitive", Kind.CONTENT_POLICY, None),
    ("The input was invalid. (E006)", Kind.INVALID_INPUT, "E006"),
    ("At least one reference is required (E006)", Kind.INVALID_INPUT, "E006"),
    ("E1001: out of memory", Kind.MODEL_ERROR, "E1001"),
    ("CUDA error at E10005", Kind.MODEL_ERROR, None),
    ("Director: unexpected error handling prediction (E1001)", Kind.MODEL_ERROR, "E1001"),
    ("Director: unexpected error handling prediction (E9828)", Kind.PROVIDER_ERROR, "E9828"),
    ("Director: unexpected error handling prediction", Kind.PROVIDER_ERROR, None),
    ("Internal webhook URL empty (E4875)", CALLBACK, "E4875"),
    ("NSFW content detected in all outputs", POLICY, None),
    ("Prediction failed: NSFW content detected. Try running it again, or try a different prompt.", POLICY, None),
    ("An unknown error occurred: content policy violation (E1000)", POLICY, "E1000"),
    ({"detail": {"status": "bad_prompt", "message": "names an artist"}}, POLICY, None),
    ('{"error": {"code": 1026, "message": "input new_sensitive"}}', POLICY, None),
    (["Request Moderated"], POLICY, None),
    ("Input validation error: lyrics must be at most 600 characters", MISTAKE, None),
    ("Prediction input failed validation: {'detail': [{'loc': ['body', 'input', 'steps']}]}", MISTAKE, None),
    ("safety checker failed to load", Kind.MODEL_ERROR, None),
    ("The content policy service timed out", Kind.MODEL_ERROR, None),
    ("invalid input tensor shape", Kind.MODEL_ERROR, None),
    ("prompt processing failed: worker crashed", Kind.MODEL_ERROR, None),
    ("it fell over", Kind.MODEL_ERROR, None),
    ("", Kind.MODEL_ERROR, None),
    (None, Kind.MODEL_ERROR, None),
    ({"odd": "object"}, Kind.MODEL_ERROR, None),
]


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, (body if isinstance(body, str) else json.dumps(body)).encode())


@pytest.mark.parametrize(("status", "body", "kind"), API_CASES, ids=lambda value: str(value)[:40])
def test_each_answer_has_its_kind(status: int, body: Any, kind: Kind) -> None:
    failure = api_failure(answer(status, body))
    assert (failure.kind, failure.http_status) == (kind, status)
    assert failure.message


@pytest.mark.parametrize(("error", "kind", "code"), PREDICTION_CASES, ids=lambda value: str(value)[:40])
def test_each_prediction_s_error_has_its_kind(error: Any, kind: Kind, code: str | None) -> None:
    failure = prediction_failure(error)
    assert (failure.kind, failure.code, failure.http_status) == (kind, code, None)
    assert failure.message


def test_every_row_decides_a_case() -> None:
    bodies = [(body if isinstance(body, str) else json.dumps(body), status) for status, body, _ in API_CASES]
    answers = [*(Evidence(body, status) for body, status in bodies), *ELSE]
    errors = [Evidence(str(error)) for error, _, _ in PREDICTION_CASES]
    for rows, cases in ((API_ROWS, answers), (PREDICTION_ROWS, errors)):
        deciding = {next((n for n, row in enumerate(rows) if row.fits(case)), None) for case in cases}
        assert deciding - {None} == set(range(len(rows)))


def test_title_and_detail_are_the_message_and_the_title_is_the_code() -> None:
    failure = api_failure(answer(402, problem("Insufficient credit", "Top up.")))
    assert (failure.message, failure.code) == ("Insufficient credit: Top up.", "Insufficient credit")


ELSE = (Evidence("no", 422, fields=("webhook",)), Evidence("Not found.", 404))
LOGS = "Using seed: 1\n100%|##########| 50/50\nTraceback (most recent call last):\n  File 'predict.py', line 9\n"


PROGRESS = "\n".join(f" {done}%|####    | {done // 2}/50 [00:02<00:04, 12.1it/s]" for done in (8, 50, 90, 100))
UNINFORMATIVE: list[Any] = [
    *(None, "", "Sorry", "Error running prediction", "Something went wrong", "RuntimeError", "prediction_failed"),
    *("Internal Server Error", "Prediction failed, see logs", "Failed to generate", "Failed to generate audio"),
    *("An unexpected error occurred", "Model error", "subprocess exited with non-zero status 1"),
]


@pytest.mark.parametrize(
    ("error", "logs", "kind"),
    [
        (None, LOGS + "Exception: NSFW content detected. Try running it again, or try a different prompt.\n", POLICY),
        ("", LOGS + "ValueError: lyrics must be at most 600 characters", MISTAKE),
        ("Prediction failed.", LOGS + "Request Moderated", POLICY),
        ("exit status 1", LOGS + "Request Moderated", POLICY),
        *((error, LOGS + "NSFW content detected\n" + PROGRESS, POLICY) for error in UNINFORMATIVE),
        *((error, LOGS + "ValueError: worker lost\n" + PROGRESS, Kind.MODEL_ERROR) for error in UNINFORMATIVE),
        ("AssertionError: shape", LOGS + "NSFW content detected", Kind.MODEL_ERROR),
        ("Prediction interrupted; please retry (code: PA)", "NSFW content detected", Kind.PROVIDER_ERROR),
        # An informative error decides, and the logs do not.
        ("CUDA out of memory", "NSFW content detected in image 0\n", Kind.MODEL_ERROR),
        ("it fell over", LOGS + "NSFW content detected in image 0\n", Kind.MODEL_ERROR),
        # Only the end of the log counts.
        (None, "NSFW content detected in image 0\n" + LOGS + "torch.OutOfMemoryError\n", Kind.MODEL_ERROR),
        (None, LOGS + "RuntimeError: safety checker failed to load", Kind.MODEL_ERROR),
        (None, None, Kind.MODEL_ERROR),
        (None, 7, Kind.MODEL_ERROR),
    ],
)
def test_the_end_of_the_log_decides_if_the_error_is_uninformative(error: Any, logs: Any, kind: Kind) -> None:
    assert prediction_failure(error, logs).kind is kind


def test_the_last_line_of_the_log_is_the_message_if_the_error_is_empty() -> None:
    assert prediction_failure(None, LOGS + "RuntimeError: it fell over\n\n").message == "RuntimeError: it fell over"


def test_the_input_of_the_caller_is_not_interpreted() -> None:
    prompt = "a song about a censor who says: NSFW content detected, content policy violation"
    assert prediction_failure(f"could not sing {prompt!r}", echoed=[prompt]).kind is Kind.MODEL_ERROR
    assert prediction_failure(None, f"prompt: {prompt}\nKilled", echoed=[prompt]).kind is Kind.MODEL_ERROR
    assert prediction_failure(None, "Using prompt: 'NSFW'\nKilled", echoed=["NSFW"]).kind is Kind.MODEL_ERROR
    said = answer(400, problem("Bad request", f"cannot parse {prompt!r}"))
    assert api_failure(said, [prompt]).kind is Kind.UNKNOWN
