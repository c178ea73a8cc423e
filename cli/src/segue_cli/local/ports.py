"""Choosing ports that stay free until a process listens on them."""

from __future__ import annotations

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
QUIET: Final = range(10_240, 32_768)
"""Ports below the range that systems use for outgoing connections.

A port of that range may be free when it is chosen, and in use when its process listens on it or is restarted.
"""
_TRIES: Final = 200


class NoFreePort(RuntimeError):
    """This machine has no free port."""


def is_free(port: int) -> bool:
    """Whether no process listens on that port of the loopback address."""
    try:
        with socket.create_server((LOOPBACK, port)):
            return True
    except OSError:
        return False


def free_port(ports: range = QUIET) -> int:
    """A random free port of the loopback address among `ports`. Raises NoFreePort."""
    for port in random.sample(ports, min(_TRIES, len(ports))):
        if is_free(port):
            return port
    raise NoFreePort("this machine has no free port")
