"""The listener is tested on the event loop that services run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop of the tests in this folder."""
    return {"uvloop": uvloop.new_event_loop}
