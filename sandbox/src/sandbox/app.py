"""Composition of the stand-ins: the parts, their listeners, and the addresses that callers need."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from sandbox.control import Control
from sandbox.fal.api import Fal, fal_http_error
from sandbox.fal.platform import FalPlatform
from sandbox.http.certificates import make_certificates
from sandbox.http.serving import Site, bind, serving
from sandbox.http.signing import Keys
from sandbox.replicate.api import Replicate, replicate_http_error
from sandbox.replicate.documents import prediction
from sandbox.runs.bills import Bills
from sandbox.runs.faults import Faults, Rule
from sandbox.runs.files import Files
from sandbox.runs.intake import Desk
from sandbox.runs.job import Job
from sandbox.runs.progress import Jobs
from sandbox.settings import Settings
from sandbox.webhooks import Webhooks


@dataclass(frozen=True)
class Listening:
    """Where the stand-ins listen; port 0 is any free port."""

    fal: int = 0
    fal_run: int = 0
    replicate: int = 0
    control: int = 0
    host: str | None = None
    """The name by which other machines reach this one. None: only this machine can reach it."""

    @property
    def address(self) -> str:
        """The address to bind."""
        return "127.0.0.1" if self.host is None else "0.0.0.0"  # noqa: S104 - as it was asked for

    def sockets(self) -> list[socket.socket]:
        """A bound socket for each listener."""
        return [bind(self.address, port) for port in (self.fal, self.fal_run, self.replicate, self.control)]


@dataclass(frozen=True)
class Addresses:
    """The addresses of all listeners; printed as one JSON line."""

    fal_host: str
    fal_run_host: str
    fal_api_url: str
    fal_jwks_url: str
    replicate_base_url: str
    control_url: str
    ca_file: str
    bills: str

    def as_json(self) -> dict[str, Any]:
        """The addresses as a JSON object."""
        return asdict(self)


@asynccontextmanager
async def sandbox(
    folder: Path, listening: Listening, settings: Settings, rules: Sequence[Rule] = ()
) -> AsyncIterator[Addresses]:
    """Both providers for the length of the block, with their certificates and bills in `folder`.

    `rules` are the faults in force at its start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tls_host, plain_host = listening.host or "localhost", listening.host or "127.0.0.1"
    certificates = make_certificates(folder, tls_host)
    book = folder / "bills.jsonl"
    async with AsyncExitStack() as stack:
        socks = [stack.enter_context(sock) for sock in listening.sockets()]
        fal, fal_run, replicate, control = (sock.getsockname()[1] for sock in socks)
        addresses = Addresses(
            fal_host=f"{tls_host}:{fal}",
            fal_run_host=f"{tls_host}:{fal_run}",
            fal_api_url=f"https://{tls_host}:{fal}",
            fal_jwks_url=f"https://{tls_host}:{fal}/.well-known/jwks.json",
            replicate_base_url=f"http://{plain_host}:{replicate}",
            control_url=f"http://{plain_host}:{control}",
            ca_file=str(certificates.ca_file),
            bills=str(book),
        )
        bills = stack.enter_context(Bills.open(book))
        keys, faults = Keys(), Faults()
        faults.put(list(rules))
        apps = await _apps(stack, addresses, settings, bills, keys, faults, certificates.ca_file)
        tls = (certificates, certificates, None, None)
        await stack.enter_async_context(serving([Site(*each) for each in zip(apps, socks, tls, strict=True)]))
        yield addresses


async def _apps(
    stack: AsyncExitStack,
    addresses: Addresses,
    settings: Settings,
    bills: Bills,
    keys: Keys,
    faults: Faults,
    ca_file: Path,
) -> tuple[Starlette, Starlette, Starlette, Starlette]:
    def predict(job: Job) -> dict[str, Any]:
        return prediction(job, addresses.replicate_base_url, settings)

    webhooks = await stack.enter_async_context(Webhooks.open(settings, keys, predict, ca_file))
    jobs = await stack.enter_async_context(Jobs.open(settings, bills, webhooks.announce))
    desk = Desk(settings, faults, bills, jobs, addresses.fal_api_url)
    fal = Fal(desk, addresses.fal_api_url)
    files = Route("/files/{fault}/{name}", Files(jobs.of_any).serve)
    platform = FalPlatform(desk, keys).routes()
    return (
        Starlette(routes=[files, *platform, *fal.queue_routes()], exception_handlers={HTTPException: fal_http_error}),
        Starlette(routes=fal.direct_routes(), exception_handlers={HTTPException: fal_http_error}),
        Starlette(
            routes=Replicate(desk, keys, addresses.replicate_base_url).routes(),
            exception_handlers={HTTPException: replicate_http_error},
        ),
        Control(settings, faults, bills, jobs, keys).app(),
    )
