"""Texts of others are made harmless in the answers of the API, and the client's own texts are returned unchanged."""

from __future__ import annotations

import json
import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from tests.builders import attempt_event, job_requested

from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptAmbiguous, AttemptFailed, AttemptSubmitting
from contracts.modalities.music import MusicInput
from contracts.text import REPLACEMENT, UNPRINTABLE, replaced
from gateway.context import TENANT
from gateway.http.plain import Answer, PlainJSON

SESSION = pytest.mark.asyncio(loop_scope="session")

WILD = "\x1b]0;owned\x07 \x9b31mred\x9c \u202eevil\u2066\u2069 \u200bzero\ufeff \x7f\u2028 \U000e0041"
UNSAFE = set(WILD) - set("]0;owned 31mredvilz")


def harmless(text: str) -> bool:
    return not UNSAFE & set(text)


class Texts(Answer):
    word: str
    words: list[Texts] = Field(default_factory=list)
    own: dict[str, str] = Field(default_factory=dict)


@given(st.text(st.sampled_from("a~ \x7f\r\n\t\x00\u00e9\u202e\u200d"), max_size=6))
def test_a_text_that_needs_no_replacement_is_the_text_that_is_searched(text: str) -> None:
    assert replaced(text) == UNPRINTABLE.sub(REPLACEMENT, text.replace("\r\n", "\n"))
    encoded = json.dumps(text, ensure_ascii=False)
    escapes = UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], encoded)
    assert PlainJSON(text).body == escapes.encode()


def test_texts_of_an_answer_are_printable_and_those_of_the_client_are_unchanged() -> None:
    answer_body = Texts(word=WILD, words=[Texts(word="a\x1bb")], own={"k\x1b": WILD})
    assert (answer_body.word, answer_body.words[0].word) == (replaced(WILD), "a\N{REPLACEMENT CHARACTER}b")
    assert answer_body.own == {"k\x1b": WILD}


@given(text=st.text(st.characters(exclude_categories=[]), max_size=40))
def test_json_carries_every_character_and_shows_none_that_is_unsafe(text: str) -> None:
    body = PlainJSON({"k": text, text: [text]}).body
    assert json.loads(bytes(body)) == {"k": text, text: [text]}
    shown = bytes(body).decode()
    assert not {char for char in shown if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}}
    assert not {"\u202e", "\u2066", "\u200b", "\ufeff"} & set(shown)
    for usual in "ü深🎹":
        assert usual.encode() in bytes(PlainJSON(usual).body)


def failed(story: Any) -> list[Any]:
    at = [story.begin + timedelta(milliseconds=n) for n in range(5)]
    said = MusicInput(prompt=f"warm pad {WILD}")
    asked = job_requested(story.job_id, at[0], tenant=TENANT, input=said, metadata={"order": WILD})
    lost = {"message": WILD, "resolve_by": at[0] + timedelta(minutes=9)}
    kind = FailureKind.AMBIGUOUS_SUBMISSION
    failure = {"kind": kind, "error_code": WILD, "message": WILD, "accepted": False}
    return [
        asked,
        story.accepted(),
        attempt_event(AttemptSubmitting, story.job_id, 1, 1, at[1]),
        attempt_event(AttemptAmbiguous, story.job_id, 1, 2, at[2], **lost),
        attempt_event(AttemptFailed, story.job_id, 1, 3, at[3], **failure),
        story.failed().model_copy(update={"message": f"fal: {WILD}"}),
    ]


@SESSION
async def test_texts_of_a_provider_are_harmless_in_every_answer(world: Any, story_of: Any) -> None:
    story = story_of(job_id_for(TENANT, "wild words"))
    await world.store(*failed(story))
    for path in (
        f"/api/jobs/{story.job_id}",
        f"/api/jobs/{story.job_id}/logs",
        f"/api/attempts/{story.attempt(1)}",
        "/api/attempts?ambiguous=true&limit=100",
        "/api/jobs?limit=100",
    ):
        answer = await world.client.get(path)
        assert answer.status_code == 200, answer.text
        assert harmless(answer.text), path
        assert "owned" in answer.text
    job = (await world.client.get(f"/api/jobs/{story.job_id}")).json()
    assert job["attempts"][0]["message"] == replaced(WILD)
    assert job["error"]["message"] == replaced(f"fal: {WILD}")
    assert job["metadata"] == {"order": WILD}
    attempt = (await world.client.get(f"/api/attempts/{story.attempt(1)}")).json()
    assert harmless(attempt["prompt"])
    assert harmless(attempt["look_for"])
    for entry in (await world.client.get(f"/api/jobs/{story.job_id}/logs")).json()["entries"]:
        assert harmless(entry["message"] + (entry["error_code"] or ""))


@SESSION
async def test_texts_of_the_client_are_returned_unchanged(world: Any) -> None:
    body = {"prompt": f"pad \u200d\u202e {WILD} ok", "metadata": {"order": WILD, "no\u202ete": "\x9b"}}
    answer_body = (await world.post(body)).json()
    answer = await world.client.get(answer_body["links"]["job"])
    assert answer.json()["metadata"] == body["metadata"]
    assert harmless(answer.text)
    asked = world.parts.tail.known(answer_body["job_id"])
    assert asked.job is not None


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda client: client.post("/api/tracks", json={"prompt": "x", "style_strength": WILD}), 422),
        (lambda client: client.post("/api/tracks", json={"prompt": "x", f"a{WILD}": 1}), 422),
        (lambda client: client.post("/api/tracks", json={"prompt": "x", "model": WILD}), 422),
        (lambda client: client.post("/api/tracks", json={"prompt": "x", "metadata": {WILD: 1}}), 422),
        (lambda client: client.get("/api/jobs", params={"status": WILD}), 422),
        (lambda client: client.get("/api/jobs", params={"cursor": WILD}), 422),
        (lambda client: client.get("/api/jobs/%1b%5b2J%c2%9b"), 404),
        (lambda client: client.get("/api/%1b%5b2J%e2%80%ae"), 404),
        (lambda client: client.get("/api/attempts/%c2%9b31m"), 404),
        (lambda client: client.post("/api/tracks", content=b"{}", headers={"content-type": b"text/\x9b31m"}), 415),
        (lambda client: client.post("/api/tracks", content=b"{}", headers={"idempotency-key": b"a\x9bb"}), 400),
    ],
)
@SESSION
async def test_a_refusal_that_quotes_the_request_is_harmless(world: Any, send: Any, status: int) -> None:
    answer = await send(world.client)
    assert answer.status_code == status
    assert harmless(answer.text)
    assert harmless(json.dumps(answer.json(), ensure_ascii=False))


@SESSION
async def test_html_pages_have_no_texts_of_others(world: Any) -> None:
    for path in ("/docs", "/openapi.json", "/livez", "/readyz", "/api/models", "/api/health/providers"):
        assert harmless((await world.client.get(path)).text), path
