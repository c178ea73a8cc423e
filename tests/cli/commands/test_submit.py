"""What `segue submit` asks for, from its flags to the body that the API gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

import pytest

from contracts import generation
from contracts.messages import routing
from gateway.http.json_body import parse_json
from gateway.intake.track_request import TrackRequest
from segue_cli.commands import submit_options

JOB = "c1b0c5a4-8a3e-5f51-9a5d-0d7a6f1d2f3e"


class Taker(ThreadingHTTPServer):
    """Takes every request on, and keeps its body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Taker

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        answer = f'{{"job_id": "{JOB}"}}'.encode()
        self.send_response(202)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *said: Any) -> None:
        pass


@pytest.fixture
def taker() -> Iterator[Taker]:
    with Taker() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), {}),
        (("--route-by", "cheapest"), {"route_by": "cheapest"}),
        (("--max-cost", "0.5"), {"max_cost_usd": 0.5}),
        (("--max-cost", "1"), {"max_cost_usd": 1.0}),
        (("--same-model-only",), {"same_model_only": True}),
        (("--any-model",), {"same_model_only": False}),
        (("--deadline", "90"), {"deadline_s": 90.0}),
        (("--ambiguity-policy", "resubmit"), {"ambiguity_policy": "resubmit"}),
        (("--lost-output-policy", "fail"), {"lost_output_policy": "fail"}),
        (
            ("--provider", "replicate", "--provider", "fal", "--route-by", "listed", "--deadline", "60"),
            {"providers": ("replicate", "fal"), "route_by": "listed", "deadline_s": 60.0},
        ),
    ],
)
def test_each_flag_is_the_field_that_the_api_takes_and_what_is_not_said_is_left_out(
    shell: Any, taker: Taker, flags: tuple[str, ...], said: dict[str, Any]
) -> None:
    done = shell.run("submit", "Rain", *flags, "--api", taker.address)
    assert done.returncode == 0, done.stdout
    [body] = taker.bodies
    assert parse_json(TrackRequest, body).model_dump(exclude_unset=True) == {"prompt": "Rain", **said}


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--route-by", "cheap"),
        ("--ambiguity-policy", "never"),
        ("--max-cost", "much"),
        ("--max-cost", "nan"),
        ("--deadline", "inf"),
        ("--duration", "nan"),
        ("--style", "nan"),
    ],
)
def test_a_value_that_is_none_is_refused_before_anything_is_sent(
    shell: Any, taker: Taker, flag: str, value: str
) -> None:
    done = shell.run("submit", "Rain", flag, value, "--api", taker.address)
    assert done.returncode == 2
    assert flag in done.stdout
    assert not taker.bodies


def test_the_choices_are_those_of_the_contracts() -> None:
    assert get_args(submit_options.RouteBy) == get_args(routing.RouteBy)
    assert get_args(submit_options.AmbiguityPolicy) == get_args(generation.AmbiguityPolicy)
