"""Ports to listen on, that stay free until somebody does."""

from __future__ import annotations

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
QUIET: Final = range(10_240, 32_768)
"""Below the ports from which systems take those of outgoing connections.

One of theirs would be free when it is chosen, and perhaps not when its process listens, or is started again.
"""
_TRIES: Final = 200


class NoFreePort(RuntimeError):
    """This machine has no free port."""


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of the loopback address."""
    try:
        with socket.create_server((LOOPBACK, port)):
            return True
    except OSError:
        return False


def free_port() -> int:
    """Any free port of the loopback address. Raises NoFreePort."""
    for port in random.sample(QUIET, _TRIES):
        if is_free(port):
            return port
    raise NoFreePort("this machine has no free port")
