"""A running sandbox with clients for its APIs, and a receiver for its webhooks."""

import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.patience import eventually_sync, patient

FAL_KEY = "key-id:key-secret"
TOKEN = "r8_" + "x" * 37
SETTINGS = {"queue_s": 0.02, "run_s": 0.04}


@dataclass
class Box:
    """One sandbox process, with clients for each of its addresses."""

    addresses: dict[str, str]
    process: subprocess.Popen[str]
    fal: httpx.Client
    replicate: httpx.Client
    control: httpx.Client

    def fault(
        self, provider: str, on: str = "submit", times: int | None = None, prompt: str = "", **action: Any
    ) -> None:
        rule = {"provider": provider, "on": on, "times": times, "prompt_contains": prompt, "action": action}
        self.control.post("/faults", json=[rule]).raise_for_status()

    def settings(self, **values: Any) -> None:
        self.control.patch("/settings", json=values).raise_for_status()

    def bills(self) -> dict[str, Any]:
        bills: dict[str, Any] = self.control.get("/bills").json()
        return bills

    def totals(self, provider: str) -> dict[str, Any]:
        totals: dict[str, Any] = self.bills()["totals"][provider]
        return totals

    def fal_submit(self, endpoint: str = "fal-ai/lyria2", **given: Any) -> httpx.Response:
        return self.fal.post(f"/{endpoint}", json={"prompt": "Warm ambient pad"} | given)

    def fal_complete(self, submitted: httpx.Response) -> dict[str, Any]:
        url = submitted.json()["status_url"]
        document: dict[str, Any] = self.until(lambda: (d := self.fal.get(url).json())["status"] == "COMPLETED" and d)
        return document

    def predict(
        self, model: str = "google/lyria-2", *, given: dict[str, Any] | None = None, **body: Any
    ) -> httpx.Response:
        body["input"] = {"prompt": "Warm ambient pad"} | (given or {})
        return self.replicate.post(f"/v1/models/{model}/predictions", json=body)

    def prediction_ended(self, created: httpx.Response) -> dict[str, Any]:
        url = created.json()["urls"]["get"]
        document: dict[str, Any] = self.until(lambda: (d := self.replicate.get(url).json())["completed_at"] and d)
        return document

    def step(self) -> None:
        """Have each job take its next step now."""
        self.control.post("/jobs/step").raise_for_status()

    def until(self, check: Callable[[], Any]) -> Any:
        return eventually_sync(check)

    def sdk(self, script: str) -> Any:
        """Run a script that uses the unmodified SDKs; returns the JSON document that it prints."""
        env = {
            "PATH": os.environ["PATH"],
            "FAL_KEY": FAL_KEY,
            "FAL_QUEUE_RUN_HOST": self.addresses["fal_host"],
            "FAL_RUN_HOST": self.addresses["fal_run_host"],
            "SSL_CERT_FILE": self.addresses["ca_file"],
            "REPLICATE_API_TOKEN": TOKEN,
            "REPLICATE_BASE_URL": self.addresses["replicate_base_url"],
            "REPLICATE_POLL_INTERVAL": "0.05",
            "CONTROL_URL": self.addresses["control_url"],
        }
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=patient(60), check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--dir", str(folder), *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.fixture(scope="session")
def start_sandbox() -> Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]:
    return start


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    process, addresses = start(tmp_path_factory.mktemp("sandbox"))
    assert process.stdout is not None
    trust = ssl.create_default_context(cafile=addresses["ca_file"])
    how: dict[str, Any] = {"trust_env": False, "timeout": patient(60)}
    fal = httpx.Client(
        base_url=addresses["fal_api_url"], verify=trust, headers={"Authorization": f"Key {FAL_KEY}"}, **how
    )
    replicate = httpx.Client(
        base_url=addresses["replicate_base_url"], headers={"Authorization": f"Bearer {TOKEN}"}, **how
    )
    control = httpx.Client(base_url=addresses["control_url"], **how)
    with process.stdout, fal, replicate, control:
        yield Box(addresses, process, fal, replicate, control)
        process.send_signal(signal.SIGINT)
        assert process.wait(patient(60)) == 0


@pytest.fixture
def box(running: Box) -> Box:
    """The sandbox without jobs, faults and bills, with short queues and runs."""
    defaults: dict[str, Any] = {
        "fal_concurrency": None,
        "replicate_per_minute": None,
        "bad_keys": [],
        "fal_validates_at": "run",
    }
    more = {"fal_retention_s": 3600, "replicate_retention_s": 3600, "replicate_cancel_after_min_s": 5}
    webhooks = {"fal_lists_unfinished": False, "fal_webhook_retries_s": [0.05], "replicate_webhook_retries_s": [0.05]}
    running.settings(**SETTINGS, **defaults, **more, **webhooks, webhook_late_s=0.3)
    running.control.delete("/jobs")
    running.control.delete("/faults")
    running.control.delete("/bills")
    return running


@dataclass
class Delivery:
    """One webhook as it was received, at Unix time `at`."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)


@dataclass
class Receiver:
    """Receives webhooks and answers each with the next status of `answers`, or 200."""

    url: str
    answers: list[int] = field(default_factory=list)
    got: "queue.Queue[Delivery]" = field(default_factory=queue.Queue)

    def next(self) -> Delivery:
        return self.got.get(timeout=patient(60))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = taken.answers.pop(0) if taken.answers else 200
            self.send_response(answer)
            self.send_header("content-length", "0")
            self.end_headers()
            taken.got.put(Delivery(self.path, {k.lower(): v for k, v in self.headers.items()}, body))

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        taken = Receiver(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield taken
        server.shutdown()
