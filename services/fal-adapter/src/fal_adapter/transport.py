"""fal's SDK without hidden retries: one POST for each submit, hundreds of connections, and time limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx
from fal_client import AsyncClient
from fal_client import client as sdk

from adapter_kit.http.transport import RecordingTransport


class FalClient(AsyncClient):
    """The SDK's client, with connections that the caller opens and closes."""

    def __init__(self, key: str, http: httpx.AsyncClient) -> None:
        super().__init__(key=key)
        self.http = http

    @property
    async def _client(self) -> httpx.AsyncClient:
        # The SDK awaits this wherever it sends a request; its own client has 100 connections and cannot be closed.
        return self.http


@asynccontextmanager
async def fal_client(key: str, submit_timeout_s: float, ask_timeout_s: float) -> AsyncIterator[FalClient]:
    """A client for one event loop. Turns off the SDK's retries in the whole process, as they repeat paid POSTs."""
    sdk.MAX_ATTEMPTS = 1
    wire = RecordingTransport((key, key.rpartition(":")[2]), submit_timeout_s, ask_timeout_s)
    headers = {"Authorization": f"Key {key}", "User-Agent": sdk.USER_AGENT}
    # The SDK's failover to fal's second domain stays: it is used only if no connection could be made.
    async with httpx.AsyncClient(transport=sdk.AsyncBackupDomainTransport(transport=wire), headers=headers) as http:
        yield FalClient(key, http)


def queue_origins() -> frozenset[str]:
    """The origins of fal's queue: its own, and that of its second domain. The key is sent to no other origin."""
    own = httpx.URL(sdk.QUEUE_URL_FORMAT)
    second = sdk._BACKUP_DOMAINS.get(own.host)
    urls = [own, *([own.copy_with(host=second)] if second else [])]
    return frozenset(origin(str(url)) for url in urls)


def origin(url: str) -> str:
    """Scheme, host and port of a URL, for comparison; empty if there is no host, or if the URL has credentials."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if not parts.hostname or "@" in parts.netloc or not url.isprintable():
        return ""
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port not in (None, default) else "")


def sdk_version() -> str:
    """The installed version of the SDK."""
    return version("fal-client")
