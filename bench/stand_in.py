"""A cheap stand-in for fal, Replicate and an image API as OpenAI's: raw asyncio, answers at once.

`python -m bench.stand_in --dir DIR` prints its addresses as one JSON line; SIGTERM ends it. It speaks as much of the
protocols as a benchmark needs: submit, status, list, result, webhook, file, credentials probe, signing keys. fal, and
the image API below `/refusing`, refuse every request whose prompt contains "refused". A run ends, and its webhook is
sent, `--run-s` seconds after its submit; one whose prompt contains "held" ends once PUT /settings says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import ssl
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from bench.callbacks import Callbacks
from bench.listing import page

from sandbox.http.certificates import make_certificates
from sandbox.http.signing import Keys, fal_headers, replicate_headers
from sandbox.models.media import sound

_REFUSAL: Final = {"detail": "This request was refused."}
"""Words that say nothing about the provider, so that its circuit breaker stays closed."""
_NOT_FOUND: Final = (404, {"detail": "Not Found"})

Reply = tuple[int, Any]
"""A status, and a JSON value or the bytes of a file."""


class StandIn:
    """Both providers. Keeps each run's input, the times of its submits, and what was asked of it."""

    def __init__(self, run_s: float = 0.001) -> None:
        self.keys = Keys()
        self.fal_url = ""
        self.replicate_url = ""
        self.posts: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        """Requests by provider and method, and connections by provider."""
        self.answer_s = 0.0
        """Seconds until a POST is answered; PUT /settings changes this, and how long a run takes."""
        self._run_s = run_s
        self._held = True
        """Runs whose prompt contains "held" do not end."""
        self._runs: dict[str, dict[str, Any]] = {}
        self._created: list[tuple[float, str]] = []
        """The Unix times and ids of the predictions."""
        self._file = sound(seed=1, milliseconds=200)
        self._callbacks = Callbacks()

    def answer(self, provider: str, method: str, target: str, body: bytes) -> Reply:
        """The answer to one request."""
        if target == "/counts":
            return 200, self.counts
        self.counts[f"{provider} {method}"] += 1
        url = urlsplit(target)
        path = url.path.strip("/").split("/")
        match method:
            case "POST":
                return self._post(path, url.query, json.loads(body))
            case "PUT":
                settings = json.loads(body)
                self.answer_s = settings.get("answer_s", self.answer_s)
                self._run_s = settings.get("run_s", self._run_s)
                self._held = settings.get("held", self._held)
                return 200, {}
            case _:
                return self._predictions(url.query) if path == ["v1", "predictions"] else self._get(path)

    def _post(self, path: list[str], query: str, given: dict[str, Any]) -> Reply:
        match path:
            case ["v1", "models", owner, name, "predictions"]:
                return self._predict(f"{owner}/{name}", given)
            case [*below, "images", "generations"]:
                return self._image("refusing" in below, given)
            case _:
                return self._submit("/".join(path), given, parse_qs(query))

    def _get(self, path: list[str]) -> Reply:
        match path:
            case ["v1", "predictions", run] if run in self._runs:
                return 200, self._prediction(run)
            case [_, _, "requests", run, "status"] if run in self._runs:
                return 200, self._fal_status(run)
            case [_, _, "requests", run] if run in self._runs:
                return 200, self._fal_output(run)
            case ["files", _]:
                return 200, self._file
            case ["posts"]:
                return 200, self.posts
            case _:
                return self._account("/".join(path))

    def _account(self, path: str) -> Reply:
        match path:
            case "v1/account":
                return 200, {"type": "organization", "username": "bench", "name": "Bench", "github_url": None}
            case "v1/webhooks/default/secret":
                return 200, {"key": self.keys.replicate_secret()}
            case ".well-known/jwks.json":
                return 200, self.keys.jwks()
            case _:
                return _NOT_FOUND

    def _submit(self, endpoint: str, given: dict[str, Any], query: dict[str, list[str]]) -> Reply:
        prompt = str(given.get("prompt", ""))
        noted = self._note("fal", prompt)
        if "refused" in prompt:
            return 403, _REFUSAL
        run = str(uuid.uuid4())
        self._runs[run] = {"endpoint": endpoint, "input": given, "ends": self._end(prompt)}
        if webhook := query.get("fal_webhook"):
            body = json.dumps(
                {"request_id": run, "gateway_request_id": run, "status": "OK", "payload": self._fal_output(run)}
            ).encode()
            self._callbacks.at(
                self._runs[run]["ends"],
                webhook[0],
                body,
                lambda: fal_headers(self.keys.fal[-1], run, int(time.time()), body),
                noted,
            )
        return 200, self._fal_urls(run) | {"status": "IN_QUEUE", "queue_position": 0}

    def _fal_urls(self, run: str) -> dict[str, str]:
        owner, app, *_ = self._runs[run]["endpoint"].split("/")
        url = f"{self.fal_url}/{owner}/{app}/requests/{run}"
        return {"request_id": run, "response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}

    def _fal_status(self, run: str) -> dict[str, Any]:
        return self._fal_urls(run) | {"status": "COMPLETED" if self._over(run) else "IN_PROGRESS"}

    def _fal_output(self, run: str) -> dict[str, Any]:
        return {"audio": {"url": f"{self.fal_url}/files/{run}.wav", "content_type": "audio/wav"}}

    def _predict(self, model: str, given: dict[str, Any]) -> Reply:
        run = uuid.uuid4().hex[:26]
        prompt = str(given["input"].get("prompt", ""))
        noted = self._note("replicate", prompt)
        self._runs[run] = {
            "endpoint": model,
            "input": given["input"],
            "ends": self._end(prompt),
            "created": time.time(),
        }
        self._created.append((self._runs[run]["created"], run))
        if webhook := given.get("webhook"):
            body = json.dumps(self._prediction(run) | self._done(run) | {"webhook": webhook}).encode()
            secret, name = self.keys.replicate, f"msg_{run}"
            self._callbacks.at(
                self._runs[run]["ends"],
                webhook,
                body,
                lambda: replicate_headers(secret, name, int(time.time()), body),
                noted,
            )
        return 201, self._prediction(run) | {"status": "starting", "output": None}

    def _prediction(self, run: str) -> dict[str, Any]:
        url = f"{self.replicate_url}/v1/predictions/{run}"
        state = self._done(run) if self._over(run) else {"status": "processing", "output": None}
        created = f"{datetime.fromtimestamp(self._runs[run]['created'], UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        return {
            "id": run,
            "model": self._runs[run]["endpoint"],
            "version": "hidden",
            "input": self._runs[run]["input"],
            "logs": "",
            "error": None,
            "created_at": created,
            "started_at": created,
            "completed_at": created if state["output"] else None,
            "metrics": {"predict_time": 0.0},
            "urls": {"get": url, "cancel": f"{url}/cancel"},
        } | state

    def _predictions(self, query: str) -> Reply:
        """A page of the list of predictions, newest first."""
        names, more = page(self._created, query)
        following = more and f"{self.replicate_url}/v1/predictions?{more}"
        return 200, {"next": following, "previous": None, "results": [self._prediction(name) for name in names]}

    def _done(self, run: str) -> dict[str, Any]:
        return {"status": "succeeded", "output": f"{self.replicate_url}/files/{run}.wav"}

    def _image(self, refusing: bool, given: dict[str, Any]) -> Reply:
        prompt = str(given["prompt"])
        self._note("refusing" if refusing else "image", prompt)
        if refusing and "refused" in prompt:
            return 403, {"error": {"message": "This request was refused.", "type": "refused", "code": "refused"}}
        return 200, {"created": int(time.time()), "data": [{"url": f"{self.fal_url}/files/image.png"}]}

    def _end(self, prompt: str) -> float:
        """When a run that begins now ends, by the event loop's clock."""
        return math.inf if "held" in prompt else asyncio.get_running_loop().time() + self._run_s

    def _over(self, run: str) -> bool:
        ends: float = self._runs[run]["ends"]
        return ends <= asyncio.get_running_loop().time() or (math.isinf(ends) and not self._held)

    def _note(self, provider: str, prompt: str) -> dict[str, Any]:
        self.posts.append({"provider": provider, "prompt": prompt, "at": time.time()})
        return self.posts[-1]


class Connection(asyncio.Protocol):
    """One connection: HTTP/1.1 requests with a Content-Length, one after the other."""

    def __init__(self, stand_in: StandIn, provider: str) -> None:
        self._stand_in = stand_in
        self._provider = provider
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._stand_in.counts[f"{self._provider} connections"] += 1

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._data) < end + 4 + length:
                return
            body = self._data[end + 4 : end + 4 + length]
            self._data = self._data[end + 4 + length :]
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            reply = self._stand_in.answer(self._provider, method, target, body)
            if self._stand_in.answer_s and method == "POST":
                asyncio.get_running_loop().call_later(self._stand_in.answer_s, self._send, reply)
            else:
                self._send(reply)

    def _send(self, reply: Reply) -> None:
        status, content = reply
        kind, body = (
            ("audio/wav", content) if isinstance(content, bytes) else ("application/json", json.dumps(content).encode())
        )
        head = f"HTTP/1.1 {status} OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head.encode() + body)


async def serve(folder: Path, run_s: float) -> None:
    """Run both providers until SIGTERM or SIGINT."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    certificates = make_certificates(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.cert_file, certificates.key_file)
    stand_in = StandIn(run_s)
    fal, replicate = [
        await loop.create_server(partial(Connection, stand_in, provider), "127.0.0.1", 0, ssl=tls, backlog=1024)
        for provider in ("fal", "replicate")
    ]
    async with fal, replicate:
        fal_port, replicate_port = (server.sockets[0].getsockname()[1] for server in (fal, replicate))
        stand_in.fal_url = f"https://localhost:{fal_port}"
        stand_in.replicate_url = f"https://localhost:{replicate_port}"
        addresses = {
            "FAL_RUN_HOST": f"localhost:{fal_port}",
            "FAL_QUEUE_RUN_HOST": f"localhost:{fal_port}",
            "FAL_API_URL": stand_in.fal_url,
            "FAL_JWKS_URL": f"{stand_in.fal_url}/.well-known/jwks.json",
            "REPLICATE_BASE_URL": stand_in.replicate_url,
            "SSL_CERT_FILE": str(certificates.ca_file),
        }
        print(json.dumps(addresses), flush=True)
        await stop.wait()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where the certificates go")
    parser.add_argument("--run-s", type=float, default=0.001, help="seconds that each run takes (0.001)")
    given = parser.parse_args()
    asyncio.run(serve(given.dir.resolve(), given.run_s))


if __name__ == "__main__":
    main()
