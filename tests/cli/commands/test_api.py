"""Messages on the terminal for errors of the API, and for an API that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from segue_cli.commands.api import address, problem_in_words


def answer(status: int, **document: Any) -> httpx.Response:
    return httpx.Response(status, json=document)


def test_a_problem_is_printed_with_its_fields_and_its_effect_on_the_bill() -> None:
    errors = [{"field": "prompt", "problem": "too long"}, {"field": "lyrics", "problem": "need has_vocals: true"}]
    printed = problem_in_words(
        answer(
            422, type="urn:segue:problem:invalid-request", title="Invalid request", detail="prompt: …", errors=errors
        ),
        "http://x",
    )
    assert printed.splitlines()[0] == "Invalid request (422): prompt: …"
    assert "  lyrics: need has_vocals: true" in printed
    assert "nothing will be billed" in printed


def test_a_503_is_printed_with_the_way_to_repeat_it_safely() -> None:
    document = {"type": "urn:segue:problem:not-confirmed", "title": "Not confirmed", "detail": "…"}
    printed = problem_in_words(answer(503, **document, idempotency_key="k-1"), "http://x")
    assert "may exist all the same" in printed
    assert "--key k-1" in printed


def test_an_answer_that_is_not_of_segue_is_reported_as_such() -> None:
    assert "not as Segue's API does" in problem_in_words(httpx.Response(502, text="<html>"), "http://x")


def test_the_address_is_taken_from_the_nearest_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGUE_API", raising=False)
    assert address(None, tmp_path) == "http://127.0.0.1:8080"
    (tmp_path / "up.env").write_text("SEGUE_API='http://127.0.0.1:9'\n")
    assert address(None, tmp_path) == "http://127.0.0.1:9"
    monkeypatch.setenv("SEGUE_API", "http://other/")
    assert address(None, tmp_path) == "http://other"
    assert address("http://given/", tmp_path) == "http://given"


@pytest.mark.parametrize("words", [("jobs",), ("job", "x"), ("logs", "x"), ("submit", "Rain")])
def test_without_an_api_the_message_names_segue_up(shell: Any, words: tuple[str, ...]) -> None:
    done = shell.run(*words, "--api", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "segue up" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.fixture
def api_without_answers() -> Iterator[str]:
    """A server that closes the connection after each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.connection.close()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_request_whose_answer_is_lost_can_be_repeated(shell: Any, api_without_answers: str) -> None:
    done = shell.run("submit", "Rain", "--key", "k-2", "--api", api_without_answers)
    assert done.returncode == 1
    assert "may exist all the same" in done.stdout
    assert "--key k-2" in done.stdout


def test_an_invalid_address_is_named(shell: Any) -> None:
    done = shell.run("jobs", "--api", "nowhere")
    assert done.returncode == 1
    assert "nowhere is not the address of an API" in done.stdout
