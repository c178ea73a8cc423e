"""`segue providers`: the screen, in 80 columns, and the JSON document."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from rich.console import Console

from segue_cli.views.providers import providers_screen

CLOSED = {
    "state": "closed", "since": "2026-01-01T10:00:00Z", "retry_at": None, "blocked_until": None, "failures": 0,
    "openings": 0,
}  # fmt: skip
OPEN = CLOSED | {"state": "open", "since": "2026-01-01T11:59:30Z", "retry_at": "2026-01-01T12:00:08Z", "openings": 2}
IDLE = {"total": 0, "submitting": 0, "running": 0, "collecting": 0, "cancelling": 0, "ambiguous": 0}
NOTHING = {
    "ended": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "kinds": {}, "error_rate": None, "provider_failed": 0,
    "provider_error_rate": None, "p50_s": None, "p95_s": None,
}  # fmt: skip
LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
HEALTHY = {
    "status": "ok", "breaker": CLOSED, "last_error": None, "in_flight": IDLE,
    "queued": {"total": 0, "held_back": 0, "oldest_at": None}, "recent": NOTHING,
}  # fmt: skip
REPLICATE = {
    **HEALTHY, "provider": "replicate", "error": None, "since": "2026-01-01T10:00:00Z",
    "probe": {"status": "ok", "error": None, "since": "2026-01-01T10:00:00Z", "checked_at": "2026-01-01T11:59:56Z"},
    "webhooks": {"expected": 12, "heard": 11, "arriving": True},
    "caps": {"concurrent_runs": None, "submits_per_minute": 6}, "late": 1,
    "endpoints": [{**HEALTHY, "endpoint": "stability-ai/stable-audio-2.5"}],
}  # fmt: skip
FAL = {
    **REPLICATE, "provider": "fal", "status": "fail", "error": LOCKED, "since": "2026-01-01T11:55:00Z",
    "breaker": OPEN, "last_error": {"kind": "insufficient_balance", "message": LOCKED, "at": "2026-01-01T11:59:30Z"},
    "in_flight": IDLE | {"total": 3, "running": 2, "ambiguous": 1},
    "queued": {"total": 4, "held_back": 3, "oldest_at": "2026-01-01T11:59:00Z"},
    "recent": NOTHING | {"ended": 20, "succeeded": 15, "failed": 5, "provider_failed": 4, "p50_s": 31.5, "p95_s": 240},
    "endpoints": [
        {**HEALTHY, "endpoint": "fal-ai/stable-audio-25/text-to-audio"},
        {
            **HEALTHY, "endpoint": "fal-ai/minimax-music/v2", "status": "fail",
            "breaker": OPEN | {"state": "half_open"},
            "last_error": {"kind": "model_not_found", "message": "no such app", "at": "2026-01-01T11:59:30Z"},
        },
    ],
}  # fmt: skip
DOCUMENT: dict[str, Any] = {"as_of": "2026-01-01T12:00:00Z", "window_s": 900.0, "providers": [FAL, REPLICATE]}


def drawn(document: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(providers_screen(document))
    return capture.get()


def test_it_fits_80_columns_and_names_every_endpoint_and_error() -> None:
    screen = drawn(DOCUMENT)
    assert max(map(len, screen.splitlines())) <= 80
    together = " ".join(screen.split())
    for words in (
        "fail for 5 min, credential probe 4 s ago: ok",
        "Exhausted balance",
        "open for 30 s; asked again in 8 s",
        "fal-ai/minimax-music/v2: half-open for 30 s; one attempt is under way as the probe",
        "fal-ai/minimax-music/v2: last error 30 s ago: model_not_found: no such app",
        "3 in flight (2 running, 1 ambiguous), 4 waiting (3 held back), 1 late; at most 6 a minute",
        "webhooks: arriving, 11 of the last 12 arrived",
        "4/20",
        "31.5 s",
        "240 s",
    ):
        assert words in together
    assert "fal-ai/stable-audio-25/text-to-audio" in drawn(DOCUMENT, 160)


def test_an_error_that_is_over_is_told_from_the_present_one() -> None:
    older = {"kind": "unavailable", "message": "502", "at": "2026-01-01T11:50:00Z"}
    one_now = {"last_error": older, "breaker": CLOSED | {"failures": 1}}
    over, present = (
        " ".join(drawn(DOCUMENT | {"providers": [REPLICATE | state]}).split())
        for state in ({"last_error": older}, one_now)
    )
    assert "recovered from an error 10 min ago: unavailable: 502" in over
    assert " last error 10 min ago: unavailable: 502" in present


def test_an_adapter_that_never_ran_is_shown_without_times() -> None:
    never: dict[str, Any] = {
        "since": None,
        "probe": None,
        "error": "no report from fal-adapter yet",
        "endpoints": [],
        "last_error": None,
    }
    screen = drawn(deepcopy(DOCUMENT) | {"providers": [FAL | never | {"breaker": CLOSED | {"since": None}}]})
    assert [line.rstrip() for line in screen.splitlines()][-5:-3] == ["fal  fail", "  no report from fal-adapter yet"]


@pytest.fixture
def api() -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(DOCUMENT).encode()
            self.send_response(200 if self.path == "/api/providers" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    serving.join()
    server.server_close()


def test_json_is_the_document_of_the_api(shell: Any, api: str) -> None:
    done = shell.run("providers", "--json", "--api", api)
    assert (done.returncode, json.loads(done.stdout)) == (0, DOCUMENT)
    assert "Exhausted balance" in shell.run("providers", "--api", api).stdout


def test_it_can_be_watched_until_ctrl_c(shell: Any, api: str, until: Any) -> None:
    command = shell.start("providers", "--watch", "--json", "--api", api)
    until(lambda: command.printed().count("\n") >= 2, 60, command.printed)
    assert command.stop(signal.SIGINT) == 130
    assert json.loads(command.printed().splitlines()[0]) == DOCUMENT


def test_without_an_api_the_message_names_segue_up(shell: Any) -> None:
    done = shell.run("providers", "--api", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "Start one with `segue up`" in done.stdout


def test_a_provider_that_is_not_enabled_says_so() -> None:
    document = deepcopy(DOCUMENT)
    document["providers"][0] |= {"status": "disabled", "error": None, "since": None}
    assert "fal  not enabled: SEGUE_PROVIDERS leaves it out" in drawn(document)
