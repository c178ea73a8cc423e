"""Replicate's SDK with its traps disarmed: no hidden retries, no POST without a time-out, an end to each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import httpx
from replicate.client import Client

from adapter_kit.http.transport import RecordingTransport


class ReplicateClient(Client):
    """The SDK's client over connections that somebody else opens and closes.

    The SDK's own retry GETs, obey any Retry-After while somebody waits, and cannot be closed.
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
    """The version of the SDK that is installed."""
    return version("replicate")
