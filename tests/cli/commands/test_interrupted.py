"""Commands that end before their answer is seen: they say what may have become of the request, and how to repeat it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.patience import patient

ATTEMPT = {"id": "j.1", "provider": "fal", "state": "ambiguous", "look_for": None}
SUBMIT = "The job may exist all the same. Repeating it with the same key is safe and bills once: --key "
CANCEL = "The job may be cancelled all the same. Repeating the command is safe"
RESOLVE = "The report may have been taken all the same. Repeating the command is safe"
COLLECT = "The files may be fetched all the same. Repeating the command is safe"
COMMANDS = [
    (("submit", "Rain"), SUBMIT),
    (("cancel", "j"), CANCEL),
    (("attempts", "resolve", "j.1", "--accepted", "run"), RESOLVE),
    (("attempts", "collect", "j.1"), COLLECT),
]


class SlowApi(ThreadingHTTPServer):
    """Answers a POST once `answers` is set; until then it has only received it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[str | None] = []
        self.answers = threading.Event()
        self.answer: tuple[int, dict[str, Any]] = (202, {"job_id": "j", "message": "Taken."})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SlowApi

    def do_GET(self) -> None:
        self._answer(200, ATTEMPT)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.server.keys.append(self.headers["idempotency-key"])
        self.server.answers.wait()
        self._answer(*self.server.answer)

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def slow_api() -> Iterator[SlowApi]:
    with SlowApi() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.answers.set()
        server.shutdown()


STOPPING_IMPORTS = """
import signal, sys

class Stop:
    def find_spec(self, name, *_):
        if name == {name!r}:
            print("importing", name, flush=True)
            while True:
                signal.sigtimedwait((), 0.05)

sys.meta_path.insert(0, Stop())
"""
"""A module that Python imports at its start: the import of a module takes until a signal ends it."""


@pytest.mark.parametrize(
    "module", ["typer", "chassis.settings.env_file", "segue_cli.commands.jobs", "segue_cli.views.console", "httpx"]
)
def test_ctrl_c_while_a_command_starts_prints_no_traceback(shell: Any, module: str) -> None:
    (shell.folder / "sitecustomize.py").write_text(STOPPING_IMPORTS.format(name=module))
    command = shell.start("jobs", env={"PYTHONPATH": str(shell.folder)})
    command.until(f"importing {module}")
    assert command.stop(signal.SIGINT) in (130, -signal.SIGINT)
    assert command.printed() == f"importing {module}\n"


def test_ctrl_c_that_is_ignored_stays_so(shell: Any, slow_api: SlowApi, until: Any) -> None:
    """A shell has commands in the background ignore it."""
    with (shell.folder / "out").open("w") as out:
        ignoring = ["env", "--ignore-signal=INT", sys.executable, "-m", "segue_cli"]
        words = [*ignoring, "submit", "Rain", "--api", slow_api.address]
        with subprocess.Popen(words, cwd=shell.folder, env=shell.env, stdout=out, stderr=out) as process:
            until(lambda: slow_api.keys, 60)
            process.send_signal(signal.SIGINT)
            slow_api.answers.set()
            assert process.wait(patient(60)) == 0


@pytest.mark.parametrize(("words", "said"), COMMANDS)
def test_ctrl_c_after_a_request_was_sent_says_how_to_repeat_it(
    shell: Any, slow_api: SlowApi, until: Any, words: tuple[str, ...], said: str
) -> None:
    command = shell.start(*words, "--api", slow_api.address)
    until(lambda: slow_api.keys, 60, command.printed)
    assert command.stop(signal.SIGINT) == 130
    (line,) = command.printed().splitlines()
    assert line.startswith(said)
    if words[0] == "submit":
        assert re.fullmatch(r"[0-9a-f-]{36}", str(slow_api.keys[0]))
        assert line.endswith(f"--key {slow_api.keys[0]}")


def test_ctrl_c_names_the_key_that_was_given(shell: Any, slow_api: SlowApi, until: Any) -> None:
    command = shell.start("submit", "Rain", "--key", "k-3", "--api", slow_api.address)
    until(lambda: slow_api.keys, 60, command.printed)
    assert command.stop(signal.SIGINT) == 130
    assert command.printed() == f"{SUBMIT}k-3\n"


def test_an_answer_that_cannot_be_printed_is_told_with_the_key(shell: Any, slow_api: SlowApi) -> None:
    slow_api.answers.set()
    with Path("/dev/full").open("w") as nowhere:
        done = shell.run("submit", "Rain", "--key", "k-4", "--api", slow_api.address, stdout=nowhere)
    assert done.returncode != 0
    assert f"{SUBMIT}k-4" in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "said"), COMMANDS)
def test_an_answer_of_another_program_does_not_hide_that_the_request_may_have_been_taken(
    shell: Any, slow_api: SlowApi, words: tuple[str, ...], said: str
) -> None:
    slow_api.answer = (504, {})
    slow_api.answers.set()
    done = shell.run(*words, "--api", slow_api.address)
    assert done.returncode == 1
    assert said in done.stdout


@pytest.mark.parametrize(("words", "said"), COMMANDS[1:])
def test_a_request_that_kafka_did_not_confirm_names_no_key_if_it_has_none(
    shell: Any, slow_api: SlowApi, words: tuple[str, ...], said: str
) -> None:
    document = {"type": "urn:segue:problem:not-confirmed", "title": "Not confirmed", "detail": "…"}
    slow_api.answer = (503, document)
    slow_api.answers.set()
    done = shell.run(*words, "--api", slow_api.address)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(said)
    assert "--key" not in done.stdout


@pytest.mark.parametrize("refuse", ["no terminal", "Ctrl-C"])
def test_a_resolution_that_is_not_confirmed_is_not_sent(shell: Any, slow_api: SlowApi, refuse: str) -> None:
    """One that says that an attempt was never accepted may be paid for twice, if it is wrong."""
    slow_api.answers.set()
    terminal, end = os.openpty()
    try:
        stdin = end if refuse == "Ctrl-C" else subprocess.DEVNULL
        words = ("attempts", "resolve", "j.1", "--never-accepted", "--api", slow_api.address)
        command = shell.start(*words, stdin=stdin)
        command.until("never accepted it, and the job may be paid for elsewhere?")
        if refuse == "Ctrl-C":
            command.interrupt_question()
        assert command.process.wait(patient(60)) == 2
    finally:
        os.close(terminal)
        os.close(end)
    assert command.printed().splitlines()[-1] == "Nothing was changed."
    assert slow_api.keys == []
