"""Accepting connections, up to the guard's limit, so that file descriptors remain for the rest of the process."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from chassis.errors import CannotStart
from chassis.http import refusals
from chassis.http.guard import SETTLED_S, Guard, Peer
from chassis.observability.log_events import HttpEvent
from chassis.observability.log_limits import Tally
from chassis.observability.logs import get_logger

RESERVED_FILES: Final = 192
"""File descriptors kept for the database, Kafka, the health pages and other needs of the process."""
_BACKLOG: Final = 2048
_AT_ONCE: Final = 32
"""Connections accepted before other tasks run."""
_PAUSE_S: Final = 0.1
_UNSENT_BYTES: Final = 65_536
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A client whose machine is gone is detected after two minutes, also while it waits for a response."""

Protocols = Callable[[Peer], asyncio.BaseProtocol]


def places(wanted: int) -> int:
    """The number of connections that are possible: each may need a second file descriptor for its response."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, (limit - RESERVED_FILES) // 2))


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket.

    Raises CannotStart. It names `setting`, the port's, if the port is taken, else the setting of the host.
    """
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # If the protocol is not given, asyncio leaves Nagle's algorithm on, which delays each response by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        _set_inherited_options(listener)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        place = f"{host}:{port} cannot be listened on: {error.strerror}"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise CannotStart(f"{setting}: {place}") from error
        named = setting.removesuffix("_PORT") + "_HOST"
        raise CannotStart(f"{named}: {place}; it has to be an address of this machine") from error
    return listener


class Listener:
    """Accepts connections for one server, with the interface of asyncio's server."""

    def __init__(self, sock: socket.socket, guard: Guard) -> None:
        self._sock = sock
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[object]] = set()
        self._accepting = self._closed = False
        self._tally = Tally(get_logger("chassis.http.server"), HttpEvent.ACCEPT_FAILED)

    def start(self, protocols: Protocols) -> None:
        """Start to accept connections."""
        self._protocols = protocols
        self._resume()

    def close(self) -> None:
        """Stop accepting."""
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._sock.close()

    async def wait_closed(self) -> None:
        """Returns at once: the server itself tracks its connections."""

    def report(self) -> None:
        """Write the log records that are due."""
        self._tally.report(self._loop.time())

    def _resume(self) -> None:
        if not self._accepting and not self._closed:
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def _pause(self, seconds: float) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)
            self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._guard.full:
                self._guard.on_free_place = self._resume
                self._guard.client_waiting = True
                self._pause(SETTLED_S)
                return
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                self._guard.client_waiting = False
                return
            except (InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._wait_for_files(error)
                return
            self._admit(sock, str(address[0]))

    def _admit(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        peer = self._guard.admit(address)
        if peer is None:
            _refuse_connection(sock)
            return
        task = self._loop.create_task(self._serve(sock, peer))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _serve(self, sock: socket.socket, peer: Peer) -> None:
        try:
            await self._loop.connect_accepted_socket(partial(self._protocols, peer), sock)
        except OSError:
            sock.close()
            self._guard.vacate(peer)

    def _wait_for_files(self, error: OSError) -> None:
        self._tally.note(errno.errorcode[error.errno or 0], "")
        self._guard.shrink()
        self._pause(_PAUSE_S)


def _refuse_connection(sock: socket.socket) -> None:
    with sock:
        try:
            sock.send(refusals.TOO_MANY_CONNECTIONS.answer())
        except OSError:
            return  # The client has closed it already.


def _set_inherited_options(listener: socket.socket) -> None:
    """Set the options that accepted sockets inherit from the listening one."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # The kernel buffers what a client does not read, up to some megabytes for each connection.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
