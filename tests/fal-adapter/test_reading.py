"""The outcomes that fal's answers stand for."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import JsonValue

from adapter_kit.http.answer import Answer
from adapter_kit.http.transport import Exchange
from adapter_kit.port.outcomes import (
    AlreadyOver,
    Broken,
    CancelPending,
    Missing,
    NoAnswer,
    Output,
    OutputPending,
    Produced,
    Running,
    Stopped,
    Unreadable,
    Waiting,
)
from contracts.failures import FailureKind as Kind
from contracts.ids import attempt_id_for, job_id_for
from contracts.messages.requests import ResolutionRequested
from fal_adapter.reading import cancel_outcome, ref_of, result_outcome, status_outcome
from fal_adapter.transport import origin, sdk_version

URL = "https://v3.fal.media/files/a.wav"
DONE = {"status": "COMPLETED"}
EARLY: tuple[Any, ...] = ({}, {"audio": None}, {"audio": {}}, {"images": []})
FAILED = {"status": "COMPLETED", "error": "it failed", "error_type": "internal_error"}
OURS = {"x-fal-request-id": "1"}


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, (body if isinstance(body, str) else json.dumps(body)).encode())


def reply(status: int, body: Any, headers: dict[str, str] | None = None) -> Exchange:
    return Exchange(handed_over=True, answer=answer(status, body, headers))


POLICY, PROVIDER = Kind.CONTENT_POLICY, Kind.PROVIDER_ERROR
REFUSED = {"status": "COMPLETED", "error": "The content was flagged by a content checker.", "error_type": None}
DOWNSTREAM = {"detail": [{"type": "downstream_service_error", "msg": "violates our content policy", "loc": ["body"]}]}
SILENCE = Exchange(handed_over=True, error=httpx.ReadTimeout("no"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "IN_QUEUE", "queue_position": 3}, Waiting(3)),
        ({"status": "IN_QUEUE"}, Waiting(None)),
        ({"status": "IN_QUEUE", "queue_position": "first"}, Waiting(None)),
        ({"status": "IN_PROGRESS"}, Running()),
    ],
)
def test_status_of_a_live_run(body: Any, expected: Any) -> None:
    assert status_outcome(reply(202, body)) == expected


def test_a_completed_status_is_returned_for_its_result_to_be_read() -> None:
    assert isinstance(status_outcome(reply(200, DONE)), Answer)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (reply(404, {"status": "NOT_FOUND"}), Missing),
        (reply(200, {"status": "FAILED"}), NoAnswer),
        (reply(200, "<html>"), NoAnswer),
        (reply(401, {"detail": "no"}), NoAnswer),
        (reply(403, {"detail": "User is locked"}), NoAnswer),
        (reply(500, {"detail": "x"}), NoAnswer),
        (reply(503, "nginx"), NoAnswer),
        (SILENCE, NoAnswer),
    ],
)
def test_a_failed_status_request_is_no_evidence_about_the_run(done: Exchange, expected: type) -> None:
    assert type(status_outcome(done)) is expected


@pytest.mark.parametrize(
    ("status", "done", "expected"),
    [
        (DONE, reply(200, {"audio": {"url": URL, "content_type": "audio/wav"}}), Produced((Output(URL, "audio/wav"),))),
        (DONE, reply(200, {"audio_file": {"url": URL}}), Produced((Output(URL),))),
        # The request for the result failed, and not the run.
        (DONE, SILENCE, NoAnswer),
        (DONE, reply(400, {"detail": "Request is still in progress"}, OURS), NoAnswer),
        (DONE, reply(401, {"detail": "no"}, OURS), NoAnswer),
        (DONE, reply(403, {"detail": "User is locked"}, OURS), NoAnswer),
        (DONE, reply(429, {"detail": "no"}, OURS), NoAnswer),
        (DONE, reply(502, "<html>nginx</html>"), NoAnswer),
        (DONE, reply(302, "", OURS), NoAnswer),
        (DONE, reply(404, {"status": "NOT_FOUND"}, OURS), Missing),
        # The run failed, and its result has the error.
        (DONE, reply(422, {"detail": [{"type": "missing", "msg": "m"}]}, OURS), (Kind.INVALID_INPUT, True)),
        (FAILED, reply(500, "Internal Server Error"), (Kind.PROVIDER_ERROR, False)),
        (FAILED, reply(403, {"detail": "the model's own"}, OURS), (Kind.PROVIDER_ERROR, True)),
        (DONE, reply(400, {"detail": {"status": "bad_prompt", "message": "names an artist"}}, OURS), (POLICY, True)),
        (DONE, reply(400, DOWNSTREAM, OURS), (POLICY, True)),
        (DONE, reply(500, {"detail": "Internal server error: content policy violation"}, OURS), (POLICY, False)),
        (DONE, reply(403, {"detail": [{"type": "forbidden", "msg": "Tags contained artist name: x"}]}), (POLICY, True)),
        (DONE, reply(401, {"detail": [{"type": "invalid_api_key", "msg": "Invalid API key"}]}), (PROVIDER, True)),
        (DONE, reply(403, {"detail": "Song Description contained artist name"}, OURS), (POLICY, True)),
        (REFUSED, reply(500, "Internal Server Error"), (POLICY, False)),
        (FAILED, reply(500, {"detail": "safety checker failed to load"}), (PROVIDER, False)),
        (DONE, reply(200, {"error": "NSFW content detected in all outputs"}), (POLICY, True)),
        (
            DONE,
            reply(200, {"audio": None, "detail": "lyrics must be at most 600 characters"}),
            (Kind.INVALID_INPUT, True),
        ),
        (DONE, reply(200, {"audio": {"url": URL}, "message": "NSFW content detected"}), Produced((Output(URL),))),
        (DONE, reply(504, {"detail": "x"}, OURS | {"x-fal-request-timeout-type": "user"}), (Kind.START_TIMEOUT, False)),
        (DONE, reply(499, {"detail": "x", "error_type": "client_cancelled"}, OURS), Stopped(may_have_cost=True)),
        (FAILED, reply(200, {"audio": None}, OURS), (Kind.PROVIDER_ERROR, True)),
        # The run succeeded, and its output is not there yet.
        *((DONE, reply(200, early), OutputPending) for early in EARLY),
        (DONE, reply(200, "null"), OutputPending),
        (DONE, reply(202, {"status": "IN_PROGRESS"}), OutputPending),
        (DONE, reply(200, {"detail": "Request is still in progress"}), NoAnswer),
        (DONE, reply(200, ""), OutputPending),
        # A proxy answered in place of fal.
        (DONE, reply(200, "<html>Please wait</html>"), NoAnswer),
        (DONE, reply(200, '{"audio": {"url": "https'), NoAnswer),
        # The run succeeded, and its output cannot be read: no other run is paid for.
        (DONE, reply(200, {"audio": {"path": "/out/x.wav"}}), Unreadable),
        (DONE, reply(200, {"pictures": [{"url": URL.replace("wav", "png")}]}), Unreadable),
        (FAILED, reply(200, {"audio": URL}), Produced((Output(URL),))),
    ],
)
def test_how_a_completed_run_ended(status: Any, done: Exchange, expected: Any) -> None:
    outcome = result_outcome(answer(200, status), done, "music")
    if isinstance(expected, tuple):
        assert isinstance(outcome, Broken)
        assert (outcome.failure.kind, outcome.may_have_cost) == expected
    elif isinstance(expected, type):
        assert type(outcome) is expected
    else:
        assert outcome == expected


INCONCLUSIVE: tuple[tuple[int, Any], ...] = (
    # Failures of the platform, whatever the request; each has fal's request id, as all answers of fal.
    *((status, {"detail": "Internal Server Error"}) for status in (500, 502, 503, 504, 520, 524, 529)),
    (502, {"detail": "Bad Gateway"}),
    (503, {"detail": "Service temporarily unavailable"}),
    (503, "<html><head><title>503</title></head></html>"),
    *((status, "") for status in (500, 502, 503, 504)),
    (500, "Internal Server Error"),
    (500, {"error": "upstream connect error or disconnect/reset before headers"}),
    (504, {"message": "Endpoint request timed out"}),
    # About the key, a proxy, or a temporary state.
    *(
        (status, {"detail": "no"})
        for status in (401, 402, 403, 405, 406, 407, 408, 409, 410, 415, 418, 421, 423, 425, 426, 428, 429, 431, 451)
    ),
    (499, {"detail": "client closed request"}),
    (429, {"detail": "Too many requests", "error_type": "concurrent_requests_limit"}),
    (403, {"detail": "User is locked. Reason: Exhausted balance."}),
    # Too early.
    (400, {"detail": "Request is not completed yet"}),
    (400, {"detail": "Request not completed"}),
    (400, {"detail": "Result not ready"}),
    (400, {"detail": "The result is not yet available"}),
    (400, {"detail": "Request has not been processed"}),
    (400, {"detail": "Request is still in progress", "error_type": "bad_request"}),
    (422, {"detail": "The request hasn't finished"}),
    (425, {"detail": "Request is in queue"}),
    # Pages.
    *((status, "<html><center>nginx</center></html>") for status in (400, 403, 404, 405, 413, 422, 499, 500, 504)),
    (413, ""),
    (422, ""),
    (302, ""),
)


@pytest.mark.parametrize(("status", "body"), INCONCLUSIVE, ids=str)
def test_an_answer_that_may_be_about_the_request_is_fetched_again(status: int, body: Any) -> None:
    for headers in (OURS, {}):
        outcome = result_outcome(answer(200, DONE), reply(status, body, headers), "music")
        assert isinstance(outcome, NoAnswer), outcome
        assert outcome.finished
        assert outcome.reason


NSFW = "NSFW content detected"
REFUSALS: tuple[tuple[Any, Kind], ...] = (
    ({"audio": {"url": None}, "error": "content_policy_violation"}, POLICY),
    ({"audio": None, "timings": {"inference": 1.2}, "error": NSFW}, POLICY),
    ({"audio": None, "prompt": "style: rock", "error": "content_policy_violation"}, POLICY),
    ({"audio": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}, POLICY),
    ({"audio": None, "errors": [NSFW]}, POLICY),
    ({"audio": None, "reason": "Your prompt was flagged by our content policy"}, POLICY),
    ({"audio": None, "status": "content_policy_violation"}, POLICY),
    ({"audio": None, "meta": {"extra": [{"why": NSFW}]}}, POLICY),
    ({"audio": None, "waveform": "https://files.example/w.png", "error": NSFW}, POLICY),
    ({"data": None, "message": NSFW}, POLICY),
    (NSFW, POLICY),
    ({"audio": None, "warnings": ["lyrics must be at most 600 characters"]}, Kind.INVALID_INPUT),
)
FLAGS: tuple[Any, ...] = (
    {"images": [], "has_nsfw_concepts": [True], "timings": {}, "error": NSFW},
    {"images": [], "has_nsfw_concepts": [True]},
    {"images": [], "has_nsfw_concepts": [True, True]},
    {"images": None, "nsfw_content_detected": True},
    {"images": [], "safety": {"flagged": True}},
    {"images": [{"url": "", "nsfw": True}]},
)


@pytest.mark.parametrize(("body", "kind"), REFUSALS, ids=str)
def test_a_refusal_beside_an_empty_output_is_read_wherever_it_stands(body: Any, kind: Kind) -> None:
    outcome = result_outcome(answer(200, DONE), reply(200, json.dumps(body)), "music")
    assert isinstance(outcome, Broken)
    assert (outcome.failure.kind, outcome.may_have_cost) == (kind, True)


@pytest.mark.parametrize("body", FLAGS, ids=str)
def test_a_checker_that_objects_to_all_pictures_has_refused_them(body: Any) -> None:
    outcome = result_outcome(answer(200, DONE), reply(200, body), "image")
    assert isinstance(outcome, Broken)
    assert (outcome.failure.kind, outcome.may_have_cost) == (POLICY, True)


@pytest.mark.parametrize(
    "body",
    [
        {"images": [], "has_nsfw_concepts": [False]},
        {"images": [], "has_nsfw_concepts": [True, False]},
        {"images": [], "has_nsfw_concepts": []},
        {"images": [], "prompt": NSFW, "enhanced_prompt": NSFW, "title": NSFW, "lyrics": NSFW, "tags": [NSFW]},
        {"images": [], "message": "No NSFW content detected"},
        {"images": [], "note": "painted after: a heron that is flagged as unsafe by a content checker"},
    ],
)
def test_a_result_that_only_resembles_a_refusal_is_not_one(body: Any) -> None:
    asked: Any = {"prompt": "a heron that is flagged as unsafe by a content checker"}
    assert isinstance(result_outcome(answer(200, DONE), reply(200, body), "image", asked), OutputPending | Unreadable)


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (500, {"detail": [{"type": "internal_server_error", "msg": "boom"}]}, {}, Kind.MODEL_ERROR),
        (503, {"detail": "x", "error_type": "runner_disconnected"}, {}, Kind.PROVIDER_ERROR),
        (500, "boom", {"x-fal-error-type": "runner_server_error"}, Kind.PROVIDER_ERROR),
        (400, {"detail": [{"type": "downstream_service_error", "msg": "not ready"}]}, {}, Kind.PROVIDER_ERROR),
        (404, {"detail": [{"type": "voice_not_found", "msg": "no such voice"}]}, {}, Kind.INVALID_INPUT),
        (404, {"detail": [{"type": "asset_not_found", "msg": "no such asset"}]}, {}, Kind.UNKNOWN),
        (400, {"detail": "The request could not be completed: the prompt was flagged as unsafe"}, {}, POLICY),
        (503, {"detail": "Your prompt was flagged by our content policy"}, {}, POLICY),
        (503, "Your prompt was flagged by our content policy", {}, POLICY),
        (404, {"detail": "Your prompt was flagged by our content policy"}, {}, POLICY),
        (429, {"detail": [{"type": "moderation", "msg": "NSFW content detected"}]}, {}, POLICY),
        (402, {"detail": "lyrics must be at most 600 characters"}, {}, Kind.INVALID_INPUT),
        (503, {"detail": "NSFW content detected", "error_type": "runner_disconnected"}, {}, Kind.PROVIDER_ERROR),
        (422, {"detail": "Voice not available"}, {}, Kind.INVALID_INPUT),
        (413, {"detail": "the output would be too large"}, {}, Kind.INVALID_INPUT),
    ],
)
def test_an_error_about_the_run_ends_it_at_once(status: int, body: Any, headers: dict[str, str], kind: Kind) -> None:
    outcome = result_outcome(answer(200, DONE), reply(status, body, headers), "music")
    assert isinstance(outcome, Broken)
    assert outcome.failure.kind is kind


def test_a_prompt_repeated_in_an_error_does_not_decide() -> None:
    prompt = "NSFW content detected in all outputs, sang the choir"
    done = reply(500, {"detail": [{"type": "internal_server_error", "msg": f"lost {prompt!r}", "input": prompt}]}, OURS)
    echoes: tuple[JsonValue, ...] = (None, {"prompt": prompt})
    for asked in echoes:
        outcome = result_outcome(answer(200, DONE), done, "music", asked)
        assert isinstance(outcome, Broken)
        assert outcome.failure.kind is Kind.MODEL_ERROR


def test_an_unreadable_result_is_kept_in_a_form_that_can_be_stored() -> None:
    address = "https://x.example/api/callbacks/fal/a.1/abcdef0123"
    body = json.dumps({"audio": "lost", "note": "\x9b31mred\u202e", "to": address, "m": "x" * 9000}, ensure_ascii=False)
    outcome = result_outcome(answer(200, DONE), reply(200, body), "music")
    assert isinstance(outcome, Unreadable)
    assert len(outcome.raw) == 2000
    assert outcome.raw.startswith(
        '{"audio": "lost", "note": "31mred", "to": "https://x.example/api/callbacks/fal/a.1/***"'
    )


def test_a_url_of_the_input_is_not_taken_for_an_output() -> None:
    asked: Any = {"melody": URL, "prompt": "x"}
    result = reply(200, {"audio": None, "melody": URL})
    assert isinstance(result_outcome(answer(200, DONE), result, "music", asked), OutputPending)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (reply(200, {"status": "OK"}), Stopped(may_have_cost=False)),
        (reply(200, {"success": True}), CancelPending()),
        (reply(202, {"status": "CANCELLATION_REQUESTED"}), CancelPending()),
        (reply(202, {"status": "OK"}), CancelPending()),
        (reply(400, {"status": "ALREADY_COMPLETED"}), AlreadyOver()),
        (reply(200, {"status": "ALREADY_COMPLETED"}), AlreadyOver()),
        (reply(202, {"status": "ALREADY_COMPLETED"}), AlreadyOver()),
        (reply(204, ""), CancelPending()),
        (reply(200, {"status": "NOT_FOUND"}), Missing('{"status": "NOT_FOUND"}')),
        (reply(400, {"status": "NOT_FOUND"}), Missing('{"status": "NOT_FOUND"}')),
    ],
)
def test_the_outcome_of_a_cancel(done: Exchange, expected: Any) -> None:
    assert cancel_outcome(done) == expected


@pytest.mark.parametrize(
    ("done", "expected"),
    [(reply(404, {}), Missing), (reply(401, {}), NoAnswer), (reply(502, ""), NoAnswer), (SILENCE, NoAnswer)],
)
def test_a_failed_cancel_is_no_evidence_about_the_run(done: Exchange, expected: type) -> None:
    assert type(cancel_outcome(done)) is expected


@pytest.mark.parametrize("bad", [None, 7, "", "a/b", "a?b", "x" * 201, "a b", "é"])
def test_an_invalid_id_is_none(bad: Any) -> None:
    assert ref_of(answer(200, {"request_id": bad})) is None


@pytest.mark.parametrize("request_id", ["-a", "_a", "A-0_z", "x" * 200])
def test_an_operator_can_name_every_run_that_is_accepted(request_id: str) -> None:
    ref = ref_of(answer(200, {"request_id": request_id}))
    assert ref is not None
    job_id = job_id_for("default", "named")
    about = {"job_id": job_id, "attempt_id": attempt_id_for(job_id, 1), "occurred_at": datetime.now(UTC)}
    told = {"provider": "fal", "tenant": "default", "provider_ref": ref.request_id}
    assert ResolutionRequested.model_validate(about | told).provider_ref == request_id


def test_the_given_urls_are_kept() -> None:
    ref = ref_of(answer(200, {"request_id": "a-1", "status_url": "https://queue.fal.run/s", "cancel_url": 7}))
    assert ref is not None
    assert (ref.request_id, ref.urls) == ("a-1", {"status_url": "https://queue.fal.run/s"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://queue.fal.run/a/b", "https://queue.fal.run"),
        ("https://QUEUE.fal.run:443/", "https://queue.fal.run"),
        ("https://queue.fal.run:8443/", "https://queue.fal.run:8443"),
        ("http://queue.fal.run/", "http://queue.fal.run"),
        ("https://queue.fal.run.evil.example/", "https://queue.fal.run.evil.example"),
        ("https://queue.fal.run@evil.example/", ""),
        ("https://evil.example\\@queue.fal.run/", ""),
        ("https://queue.fal.run:port/", ""),
        ("//queue.fal.run/", "://queue.fal.run"),
        ("https://queue.fal.run/\r\nHost: x", ""),
        ("", ""),
    ],
)
def test_the_origin_of_a_url(url: str, expected: str) -> None:
    assert origin(url) == expected


def test_the_sdk_s_version_is_known() -> None:
    assert sdk_version().startswith("1.0.")
