"""Composition of the stand-ins: the parts, their listeners, and the addresses that callers need."""

from collections.abc import AsyncIterator
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
from sandbox.runs.faults import Faults
from sandbox.runs.files import Files
from sandbox.runs.intake import Desk
from sandbox.runs.job import Job
from sandbox.runs.progress import Jobs
from sandbox.settings import Settings
from sandbox.webhooks import Webhooks


@dataclass(frozen=True)
class Ports:
    """The ports on 127.0.0.1; 0 is any free port."""

    fal: int = 0
    fal_run: int = 0
    replicate: int = 0
    control: int = 0


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
async def sandbox(folder: Path, ports: Ports, settings: Settings) -> AsyncIterator[Addresses]:
    """Both providers for the length of the block, with their certificates and bills in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    certificates = make_certificates(folder)
    book = folder / "bills.jsonl"
    async with AsyncExitStack() as stack:
        socks = [stack.enter_context(bind(p)) for p in (ports.fal, ports.fal_run, ports.replicate, ports.control)]
        fal, fal_run, replicate, control = (sock.getsockname()[1] for sock in socks)
        addresses = Addresses(
            fal_host=f"localhost:{fal}",
            fal_run_host=f"localhost:{fal_run}",
            fal_api_url=f"https://localhost:{fal}",
            fal_jwks_url=f"https://localhost:{fal}/.well-known/jwks.json",
            replicate_base_url=f"http://127.0.0.1:{replicate}",
            control_url=f"http://127.0.0.1:{control}",
            ca_file=str(certificates.ca_file),
            bills=str(book),
        )
        bills = stack.enter_context(Bills.open(book))
        keys, faults = Keys(), Faults()
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
