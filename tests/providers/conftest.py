"""Both providers, at a server that the test controls and at the sandbox."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

import fal_client.client as fal_sdk
import httpx
import pytest
from tests.patience import eventually, patient

from adapter_kit.port.outcomes import FindOutcome
from adapter_kit.port.provider import LostSubmission, Provider, Submission
from contracts.ids import AttemptId
from fal_adapter.provider import fal_provider
from replicate_adapter.provider import replicate_provider
from sandbox.http.certificates import Certificates, make_certificates

T = TypeVar("T")
FAL_KEY = "11111111-key-id:22222222-key-secret"
TOKEN = "r8_" + "x" * 37
ATTEMPT = AttemptId("6f1c4a3e-0000-4000-8000-000000000001.1")


@dataclass(frozen=True)
class Kind:
    """The differences between the providers."""

    name: str
    key: str
    endpoint: str
    arguments: Mapping[str, Any]

    def submission(self, **changes: Any) -> Submission:
        asked = {"attempt_id": ATTEMPT, "endpoint": self.endpoint, "arguments": dict(self.arguments)}
        return Submission(**asked | {"start_within_s": 30.0, "run_within_s": 60.0} | changes)


FAL = Kind("fal", FAL_KEY, "fal-ai/lyria2", {"prompt": "Warm ambient pad"})
REPLICATE = Kind("replicate", TOKEN, "google/lyria-2", {"prompt": "Warm ambient pad"})


KINDS = {kind.name: kind for kind in (FAL, REPLICATE)}


async def find(provider: Provider, lost: LostSubmission, taken: frozenset[str] = frozenset()) -> FindOutcome:
    """The outcome of a search for one lost submit."""
    return (await provider.find([lost], taken, datetime.now(UTC)))[lost.attempt_id]


@pytest.fixture(name="find")
def find_one() -> Any:
    return find


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


# --- A server with prepared answers -----------------------------------------------------------------------------------


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class RawServer:
    """Reads and records each request, then writes `answer`; without one it hangs, or drops the connection."""

    answer: bytes | None = None
    drop: bool = False
    trickle: bytes = b""
    """Written again and again after the answer."""
    then: bytes | None = None
    """What answers every request after the first."""
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.requests)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        try:
            while (request := await _read(reader, connection)) is not None:
                self.requests.append(request)
                if self.drop:
                    break
                if self.answer is None:
                    await reader.read()
                    break
                writer.write(self.then if self.then is not None and len(self.requests) > 1 else self.answer)
                await writer.drain()
                while self.trickle:
                    writer.write(self.trickle)
                    await writer.drain()
                    await asyncio.sleep(0.05)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader, connection: int) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    method, target, _ = first.split(" ")
    return Request(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))), connection)


def _http(status: int, body: Any, **headers: str) -> bytes:
    """An HTTP response; a body that is no text is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(text.encode())}"]
    headers = {"date": format_datetime(datetime.now(UTC), usegmt=True)} | headers
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


@pytest.fixture
def http() -> Callable[..., bytes]:
    """Builds HTTP responses."""
    return _http


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


Raw = Callable[..., AbstractAsyncContextManager[RawServer]]
Opened = Callable[..., AbstractAsyncContextManager[Provider]]


@pytest.fixture
def raw(kind: Kind, certificates: Certificates) -> Raw:
    """Starts a RawServer in the provider's protocol: TLS for fal."""

    @asynccontextmanager
    async def start(answer: bytes | None = None, **how: Any) -> AsyncIterator[RawServer]:
        server, tls = RawServer(answer, **how), None
        if kind.name == "fal":
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificates.cert_file, certificates.key_file)
        async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls) as listening:
            server.port = listening.sockets[0].getsockname()[1]
            yield server

    return start


@pytest.fixture
def opened(kind: Kind, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens the provider with a port of this machine as its API."""

    def at(
        port: int, submit_timeout_s: float = patient(30), key: str = kind.key
    ) -> AbstractAsyncContextManager[Provider]:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
        if kind.name == "replicate":
            return replicate_provider(key, base_url=f"http://127.0.0.1:{port}", submit_timeout_s=submit_timeout_s)
        monkeypatch.setattr(fal_sdk, "QUEUE_URL_FORMAT", f"https://localhost:{port}/")
        return fal_provider(key, api_url=f"https://localhost:{port}", submit_timeout_s=submit_timeout_s)

    return at


# --- The sandbox ------------------------------------------------------------------------------------------------------


@dataclass
class Box:
    """The sandbox, in another process."""

    addresses: dict[str, str]
    control: httpx.Client

    def fault(self, kind: Kind, on: str = "submit", times: int | None = None, **action: Any) -> None:
        rule = {"provider": kind.name, "on": on, "times": times, "action": action}
        self.control.post("/faults", json=[rule]).raise_for_status()

    def settings(self, **values: Any) -> None:
        self.control.patch("/settings", json=values).raise_for_status()

    def step(self) -> None:
        """Advance each job by one step."""
        self.control.post("/jobs/step").raise_for_status()

    def posts(self, kind: Kind) -> list[dict[str, Any]]:
        entries = self.control.get("/bills").json()["entries"]
        return [entry for entry in entries if entry["event"] == "post" and entry["provider"] == kind.name]

    def accepted(self, kind: Kind) -> list[dict[str, Any]]:
        return [entry for entry in self.posts(kind) if entry["accepted"]]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder: Path = tmp_path_factory.mktemp("sandbox")
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--dir", str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        addresses = json.loads(process.stdout.readline())
        with httpx.Client(base_url=addresses["control_url"], trust_env=False, timeout=patient(60)) as control:
            yield Box(addresses, control)
        process.terminate()
        assert process.wait(patient(60)) == 0


@pytest.fixture
def box(running: Box) -> Box:
    """The sandbox without jobs, faults or bills, with short run times."""
    running.control.delete("/jobs").raise_for_status()
    running.control.delete("/faults").raise_for_status()
    running.control.delete("/bills").raise_for_status()
    running.settings(queue_s=0.05, run_s=0.1, bad_keys=[], replicate_cancel_after_min_s=5, fal_lists_unfinished=False)
    return running


@pytest.fixture
def at_sandbox(box: Box, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractAsyncContextManager[Provider]]:
    """Opens a provider at the sandbox; each call makes a client of its own."""

    def opened(kind: Kind, **changes: Any) -> AbstractAsyncContextManager[Provider]:
        key = changes.pop("key", kind.key)
        monkeypatch.setenv("SSL_CERT_FILE", box.addresses["ca_file"])
        if kind.name == "replicate":
            return replicate_provider(key, base_url=box.addresses["replicate_base_url"], **changes)
        monkeypatch.setattr(fal_sdk, "QUEUE_URL_FORMAT", f"https://{box.addresses['fal_host']}/")
        return fal_provider(key, **{"api_url": box.addresses["fal_api_url"]} | changes)

    return opened


async def _until(ask: Callable[[], Awaitable[T]], wanted: type | tuple[type, ...]) -> T:
    answer: T

    async def answered() -> bool:
        nonlocal answer
        answer = await ask()
        return isinstance(answer, wanted)

    await eventually(answered, what=wanted, tell=lambda: repr(answer))
    return answer


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """Asks again and again until the answer is of the wanted type."""
    return _until
