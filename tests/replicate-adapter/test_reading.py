"""The outcomes that Replicate's answers stand for."""

import json
from typing import Any

import httpx
import pytest

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
from replicate_adapter.reading import cancel_outcome, check_outcome, ref_of
from replicate_adapter.transport import sdk_version

URL = "https://replicate.delivery/x/out.mp3"
EARLY: tuple[Any, ...] = (None, "", [], {}, {"audio": None})
STARTED = "2026-01-01T00:00:00Z"


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, (body if isinstance(body, str) else json.dumps(body)).encode())


def reply(status: int, body: Any) -> Exchange:
    return Exchange(handed_over=True, answer=answer(status, body))


NSFW = "NSFW content detected in all outputs"
SONG = f"{NSFW}, sang the choir of censors"
INVALID = (Kind.INVALID_INPUT, True)
SILENCE = Exchange(handed_over=True, error=httpx.ReadTimeout("no"))


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ({"status": "starting"}, Waiting()),
        ({"status": "processing", "version": None}, Running()),
        ({"status": "succeeded", "output": URL}, Produced((Output(URL),))),
        ({"status": "succeeded", "output": [URL, URL + "2"]}, Produced((Output(URL), Output(URL + "2")))),
        ({"status": "succeeded", "output": None, "data_removed": True}, (Kind.OUTPUT_LOST, True)),
        ({"status": "succeeded", "output": URL, "data_removed": True}, Produced((Output(URL),))),
        ({"status": "succeeded", "output": {"audio": None}, "data_removed": True}, (Kind.OUTPUT_LOST, True)),
        *(({"status": "succeeded", "output": early}, OutputPending) for early in EARLY),
        ({"status": "succeeded"}, OutputPending),
        (
            {"status": "succeeded", "output": "data:audio/wav;base64,AA"},
            Produced((Output("data:audio/wav;base64,AA"),)),
        ),
        ({"status": "succeeded", "output": {"song": {"deep": [URL]}}}, Produced((Output(URL),))),
        ({"status": "succeeded", "output": "it went well"}, Unreadable),
        ({"status": "succeeded", "output": {"audio": "out.wav"}}, Unreadable),
        ({"status": "succeeded", "output": {"echo": URL}, "input": {"song_file": URL}}, Unreadable),
        ({"status": "succeeded", "output": None, "urls": {"get": URL}, "logs": URL, "webhook": URL}, OutputPending),
        ({"status": "failed", "error": "boom", "started_at": STARTED}, (Kind.MODEL_ERROR, True)),
        ({"status": "failed", "error": "E6716", "started_at": None}, (Kind.PROVIDER_ERROR, False)),
        ({"status": "failed", "error": NSFW, "started_at": STARTED}, (Kind.CONTENT_POLICY, True)),
        ({"status": "failed", "error": None, "logs": f"a\n{NSFW}", "started_at": STARTED}, (Kind.CONTENT_POLICY, True)),
        ({"status": "failed", "error": f"lost {SONG!r}", "input": {"prompt": SONG}}, (Kind.MODEL_ERROR, False)),
        ({"status": "succeeded", "output": None, "error": NSFW}, (Kind.CONTENT_POLICY, True)),
        ({"status": "succeeded", "output": URL, "error": NSFW}, Produced((Output(URL),))),
        *(
            ({"status": "succeeded", **refused}, (Kind.CONTENT_POLICY, True))
            for refused in (
                {"output": {"audio": None, "error": NSFW}},
                {"output": {"audio": "", "errors": [{"message": NSFW}]}},
                {"output": [None], "error": "flagged as sensitive"},
                {"output": {"audio": ""}, "error": "flagged as sensitive"},
                {"output": None, "logs": f"Loading\n{NSFW}"},
                {"output": [], "logs": f"Loading\n{NSFW}\n"},
                {"output": [], "error": "it fell over", "logs": f"Loading\n{NSFW}\n"},
                {"output": {"audio": None, "has_nsfw_concepts": [True]}},
                {"output": NSFW},
                {"output": [NSFW]},
                {"output": None, "error": NSFW, "data_removed": True},
            )
        ),
        ({"status": "succeeded", "output": None, "error": "prompt is too long (max 300 chars)"}, INVALID),
        ({"status": "succeeded", "output": None, "logs": "No NSFW content detected"}, OutputPending),
        ({"status": "succeeded", "output": [], "logs": f"prompt: {SONG}", "input": {"prompt": SONG}}, OutputPending),
        ({"status": "succeeded", "output": {"audio": None, "title": NSFW}}, OutputPending),
        ({"status": "succeeded", "output": URL, "logs": NSFW}, Produced((Output(URL),))),
        ({"status": "succeeded", "output": None, "error": "it fell over"}, OutputPending),
        ({"status": "canceled"}, Stopped(may_have_cost=True)),
        ({"status": "aborted"}, Stopped(may_have_cost=False)),
        ({"status": "paused"}, NoAnswer),
        ({}, NoAnswer),
    ],
)
def test_the_outcome_of_a_prediction(prediction: Any, expected: Any) -> None:
    outcome = check_outcome(reply(200, prediction), "music")
    if isinstance(expected, tuple):
        assert isinstance(outcome, Broken)
        assert (outcome.failure.kind, outcome.may_have_cost) == expected
    elif isinstance(expected, type):
        assert type(outcome) is expected
    else:
        assert outcome == expected


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (reply(404, {}), Missing),
        (reply(401, {}), NoAnswer),
        (reply(500, {}), NoAnswer),
        (reply(429, {}), NoAnswer),
        (SILENCE, NoAnswer),
    ],
)
def test_a_failed_request_is_no_evidence_about_the_run(done: Exchange, expected: type) -> None:
    assert type(check_outcome(done, "music")) is expected
    assert type(cancel_outcome(done)) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("aborted", Stopped(may_have_cost=False)),
        ("canceled", Stopped(may_have_cost=True)),
        ("succeeded", AlreadyOver()),
        ("failed", AlreadyOver()),
        ("processing", CancelPending()),
        ("starting", CancelPending()),
        ("new word", CancelPending()),
    ],
)
def test_the_outcome_of_a_cancel(status: str, expected: Any) -> None:
    assert cancel_outcome(reply(200, {"status": status})) == expected


@pytest.mark.parametrize("bad", [None, 7, "", "a/b", "../account", "x" * 201])
def test_an_invalid_id_is_none(bad: Any) -> None:
    assert ref_of(answer(201, {"id": bad})) is None


def test_the_sdk_s_version_is_known() -> None:
    assert sdk_version().startswith("1.0.")
