"""`segue submit`: the request body for each flag."""

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


class AcceptingApi(ThreadingHTTPServer):
    """Accepts every request, and keeps its body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: AcceptingApi

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        answer = f'{{"job_id": "{JOB}"}}'.encode()
        self.send_response(202)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def accepting_api() -> Iterator[AcceptingApi]:
    with AcceptingApi() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("flags", "fields"),
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
def test_each_flag_sets_its_field_and_other_fields_are_left_out(
    shell: Any, accepting_api: AcceptingApi, flags: tuple[str, ...], fields: dict[str, Any]
) -> None:
    done = shell.run("submit", "Rain", *flags, "--api", accepting_api.address)
    assert done.returncode == 0, done.stdout
    [body] = accepting_api.bodies
    assert parse_json(TrackRequest, body).model_dump(exclude_unset=True) == {"prompt": "Rain", **fields}


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
def test_an_invalid_value_is_refused_before_anything_is_sent(
    shell: Any, accepting_api: AcceptingApi, flag: str, value: str
) -> None:
    done = shell.run("submit", "Rain", flag, value, "--api", accepting_api.address)
    assert done.returncode == 2
    assert flag in done.stdout
    assert not accepting_api.bodies


def test_the_choices_are_those_of_the_contracts() -> None:
    assert get_args(submit_options.RouteBy) == get_args(routing.RouteBy)
    assert get_args(submit_options.AmbiguityPolicy) == get_args(generation.AmbiguityPolicy)
