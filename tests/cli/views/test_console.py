"""Text of providers and prompts is shown without effect on the terminal, and is not read as markup."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from rich.text import Text

from segue_cli.stack.components import log_to
from segue_cli.views.console import console, plain_table
from segue_cli.views.jobs import job_screen, jobs_table, log_line, log_table

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m pay\x08\x08 \r\u202eevil\u2066 \x7f [red]x[/red] [/nonsense]"
AT = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
ATTEMPT: dict[str, Any] = {
    "id": "a.1",
    "attempt": 1,
    "provider": "fal",
    "endpoint": HOSTILE,
    "state": "failed",
    "late": False,
    "error_kind": "unknown",
    "message": HOSTILE,
    "provider_ref": HOSTILE,
    "cost_usd": None,
    "late_artifacts": [],
}
JOB: dict[str, Any] = {
    "id": HOSTILE,
    "track_id": "t",
    "status": HOSTILE,
    "model": HOSTILE,
    "provider": HOSTILE,
    "trace_id": None,
    "cost_usd": None,
    "requested_at": AT,
    "error": {"kind": "unknown", "message": HOSTILE},
    "cancel": {"effect": "pending", "message": HOSTILE},
    "artifacts": [{"url": f"/{HOSTILE}", "size_bytes": 1, "duration_s": None}],
    "attempts": [ATTEMPT],
}
ENTRY: dict[str, Any] = {
    "time": AT,
    "event": HOSTILE,
    "attempt": 1,
    "provider": HOSTILE,
    "error_code": HOSTILE,
    "message": HOSTILE,
}


def harmless(shown: str) -> bool:
    controls = {char for char in shown if unicodedata.category(char) in {"Cc", "Cs"} or char in "\u202e\u2066"}
    return controls <= {"\n"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: jobs_table([JOB], datetime.now(UTC)),
        lambda: job_screen(JOB, "http://api"),
        lambda: log_table([ENTRY]),
        lambda: log_line(ENTRY, datetime.now(UTC)),
        lambda: Text(HOSTILE),
    ],
    ids=["jobs", "job", "log", "log line", "text"],
)
def test_screens_show_hostile_text_whole_and_escaped(draw: Any, capsys: pytest.CaptureFixture[str]) -> None:
    console().print(draw())
    shown = capsys.readouterr().out
    assert harmless(shown)
    flat = "".join(shown.split())
    assert "\\u001b[2J\\u009b31m" in flat
    assert "\\u202eevil" in flat
    assert "[red]x[/red][/nonsense]" in flat


def test_jobs_say_why_they_failed_if_any_did(capsys: pytest.CaptureFixture[str]) -> None:
    well = JOB | {"id": "well", "status": "succeeded", "model": "m", "provider": "fal", "error": None}
    bad = well | {"id": "bad", "status": "failed", "error": {"kind": "moderation_blocked", "message": "no"}}
    console().print(jobs_table([well, bad], datetime.now(UTC)))
    assert "moderation_blocked" in capsys.readouterr().out
    console().print(jobs_table([well], datetime.now(UTC)))
    assert "why" not in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_colours_of_a_screen_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    table = plain_table("a")
    table.add_row(Text("no\x1b[32m", style="red"))
    console().print(table)
    assert "\x1b[31mno\\u001b[32m" in terminal.getvalue()


def test_the_log_of_a_component_has_no_control_characters(tmp_path: Any) -> None:
    take, close = log_to(tmp_path / "part.log")
    take(HOSTILE)
    close()
    assert harmless((tmp_path / "part.log").read_text("utf-8"))


@contextmanager
def api_that_answers(answer: dict[str, Any], status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("command", "status"), [("job x", 200), ("job x", 500), ("jobs", 400), ("logs x", 200)])
def test_a_command_prints_no_control_characters(shell: Any, command: str, status: int) -> None:
    refusal = {"title": HOSTILE, "detail": HOSTILE, "type": "urn:segue:problem:x"}
    answer = {**JOB, "entries": [ENTRY]} if status == 200 else refusal
    with api_that_answers(answer, status) as api:
        done = shell.run(*command.split(), "--api", api)
    assert "Traceback" not in done.stdout
    assert harmless(done.stdout)
    assert "\\u001b[2J" in "".join(done.stdout.split())


def test_json_is_printed_unchanged(shell: Any) -> None:
    with api_that_answers({"attempts": [ATTEMPT]}, 200) as api:
        done = shell.run("attempts", "--json", "--api", api)
    assert harmless(done.stdout)
    assert json.loads(done.stdout) == [ATTEMPT]
