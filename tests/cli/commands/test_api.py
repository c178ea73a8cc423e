"""What the API's refusals, and its silence, become on the terminal."""

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


def test_a_problem_is_told_with_its_fields_and_what_it_means_for_the_money() -> None:
    errors = [{"field": "prompt", "problem": "too long"}, {"field": "lyrics", "problem": "need has_vocals: true"}]
    told = problem_in_words(
        answer(
            422, type="urn:segue:problem:invalid-request", title="Invalid request", detail="prompt: …", errors=errors
        ),
        "http://x",
    )
    assert told.splitlines()[0] == "Invalid request (422): prompt: …"
    assert "  lyrics: need has_vocals: true" in told
    assert "nothing will be billed" in told


def test_a_503_says_how_to_repeat_it_safely() -> None:
    document = {"type": "urn:segue:problem:not-confirmed", "title": "Not confirmed", "detail": "…"}
    told = problem_in_words(answer(503, **document, idempotency_key="k-1"), "http://x")
    assert "may exist all the same" in told
    assert "--key k-1" in told


def test_an_answer_of_something_else_is_not_taken_for_ours() -> None:
    assert "not as Segue's API does" in problem_in_words(httpx.Response(502, text="<html>"), "http://x")


def test_the_address_is_taken_from_the_nearest_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGUE_API", raising=False)
    assert address(None, tmp_path) == "http://127.0.0.1:8080"
    (tmp_path / "up.env").write_text("SEGUE_API='http://127.0.0.1:9'\n")
    assert address(None, tmp_path) == "http://127.0.0.1:9"
    monkeypatch.setenv("SEGUE_API", "http://other/")
    assert address(None, tmp_path) == "http://other"
    assert address("http://told/", tmp_path) == "http://told"


@pytest.mark.parametrize("words", [("jobs",), ("job", "x"), ("logs", "x"), ("submit", "Rain")])
def test_where_nobody_listens_it_says_to_run_up(shell: Any, words: tuple[str, ...]) -> None:
    done = shell.run(*words, "--api", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "segue up" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes requests and hangs up."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.connection.close()

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_request_whose_answer_is_lost_can_be_repeated(shell: Any, deaf: str) -> None:
    done = shell.run("submit", "Rain", "--key", "k-2", "--api", deaf)
    assert done.returncode == 1
    assert "may exist all the same" in done.stdout
    assert "--key k-2" in done.stdout


def test_an_address_that_is_none_is_named(shell: Any) -> None:
    done = shell.run("jobs", "--api", "nowhere")
    assert done.returncode == 1
    assert "nowhere is not the address of an API" in done.stdout
