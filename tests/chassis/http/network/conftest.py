"""Connections are tested on the event loop of services, and on asyncio's own, which commands run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops, on each of which every test in this folder runs."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
