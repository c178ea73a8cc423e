"""Replicate's SDK without hidden retries: a time-out on each POST, and connections that can be closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx
from replicate.client import Client

from adapter_kit.http.transport import RecordingTransport


class ReplicateClient(Client):
    """The SDK's client, with connections that the caller opens and closes.

    The SDK's own transport retries GETs, waits for any Retry-After, and cannot be closed.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__()
        self.http = http

    @property
    def _async_client(self) -> httpx.AsyncClient:
        return self.http


@asynccontextmanager
async def replicate_client(
    token: str, base_url: str, submit_timeout_s: float, ask_timeout_s: float
) -> AsyncIterator[ReplicateClient]:
    """A client for one event loop."""
    headers = {"Authorization": f"Bearer {token}", "User-Agent": f"replicate-python/{sdk_version()}"}
    wire = RecordingTransport((token,), submit_timeout_s, ask_timeout_s)
    async with httpx.AsyncClient(transport=wire, base_url=base_url, headers=headers) as http:
        yield ReplicateClient(http)


def sdk_version() -> str:
    """The installed version of the SDK."""
    return version("replicate")
