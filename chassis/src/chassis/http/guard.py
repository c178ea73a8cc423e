"""Limits on the connections of a listener: how many there are, how long each may wait, and which one is closed first.

A connection waits while its client has to act: to send the rest of a request, to send the next request, or to read. One
that waits too long is closed, and when the listener is full, a waiting one is closed for a new one. A connection whose
request is being processed is never closed, however long that takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv6Address, ip_address
from itertools import islice
from typing import Final, Protocol

from chassis.observability.log_events import HttpEvent
from chassis.observability.log_limits import Tally
from chassis.observability.logs import get_logger
from chassis.observability.metrics import HTTP_CONNECTIONS, HTTP_TURNED_AWAY
from chassis.settings.http_limits import HttpLimits

CLOSING_S: Final = 2.0
"""Seconds that a client has to read a refusal; what it sends meanwhile is discarded."""
SETTLED_S: Final = 0.1
"""No connection is closed for a new one before that time: an ordinary client has sent its request by then."""
UNREAD_S: Final = 1.0
"""How long a connection with unread input keeps its place, in seconds; the process reads input sooner than that."""
_CANDIDATES: Final = 16
SHRUNK_S: Final = 60.0
_SPARE_FILES: Final = 16
_IPV6_NETWORK_BITS: Final = 64


class Wait(Enum):
    """What the client has to do next."""

    CLOSE = "close"
    HEADERS = "headers"
    REQUEST = "request"
    BODY = "body"
    READ = "read"


class Peer:
    """The connections of one address or one network; those of a trusted address are a separate peer."""

    __slots__ = ("address", "connections", "trusted", "waiting")

    def __init__(self, address: str, *, trusted: bool) -> None:
        self.address = address
        self.trusted = trusted
        self.connections = 0
        self.waiting: OrderedDict[Connection, None] = OrderedDict()


class Connection(Protocol):
    """What the guard needs from a connection."""

    peer: Peer
    waits: Wait | None
    since: float
    """When the wait began, or its current period."""
    unread_since: float | None
    """When unread input was first found during this wait."""
    buffered: int
    """The bytes held for it that count towards the limit."""

    def has_unread_input(self) -> bool:
        """Whether the client has sent bytes that this process has not read yet."""

    def release_memory(self) -> None:
        """Release all counted memory; close the connection unless one of its requests is being processed."""

    def expire(self, now: float) -> bool:
        """The period is over: start another wait or close the connection; returns False to extend the period."""

    def drop(self) -> None:
        """Close it at once, and release its place."""


class Guard:
    """The connections of one listener."""

    def __init__(self, limits: HttpLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.reading = memoryview(bytearray(65_536))
        """The buffer that sockets are read into: one for all, since it is parsed before the next read."""
        self._clock = clock
        self._count = 0
        self._places = limits.connections
        self._shrunk_at = 0.0
        self._peers: dict[tuple[str, bool], Peer] = {}
        self._waiting: dict[Wait, OrderedDict[Connection, None]] = {wait: OrderedDict() for wait in Wait}
        self._timeouts = {
            Wait.CLOSE: CLOSING_S,
            Wait.HEADERS: limits.header_timeout_s,
            Wait.REQUEST: limits.idle_timeout_s,
            # Checked half-way, for its rate.
            Wait.BODY: limits.body_timeout_s / 2,
            Wait.READ: limits.write_timeout_s,
        }
        self._buffering: OrderedDict[Connection, None] = OrderedDict()
        self._buffered = 0
        self._tally = Tally(get_logger("chassis.http.server"), HttpEvent.CLIENTS_TURNED_AWAY)
        self.on_free_place: Callable[[], None] | None = None
        """Called once there may be a free place; set by a caller that found none."""
        self.client_waiting = False
        """Whether a client waits for a place; set by the code that accepts."""

    @property
    def full(self) -> bool:
        """Whether no connection can be admitted now."""
        return self._count >= self._places and self._eviction_candidate() is None

    def admit(self, address: str) -> Peer | None:
        """A place for a new connection; None if every connection of that address has a request in progress."""
        peer = self._peer(address)
        if not peer.trusted and peer.connections >= self.limits.connections_per_peer:
            if not peer.waiting:
                self.note("too-many-connections", peer)
                return None
            self._drop(next(iter(peer.waiting)), "no-place-for-one-address")
        elif self._count >= self._places:
            self._make_room(peer)
        self._peers[peer.address, peer.trusted] = peer
        peer.connections += 1
        self._count += 1
        HTTP_CONNECTIONS.inc()
        return peer

    def shrink(self) -> None:
        """The process is out of file descriptors: allow fewer connections for a while."""
        self._places = max(1, min(self._places, self._count) - _SPARE_FILES)
        self._shrunk_at = self._clock()
        while self._count > self._places and (first := self._longest_waiting()) is not None:
            self._drop(first, "no-files")

    def release(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        self.wait(connection, None)
        self.buffer(connection, 0)
        self.vacate(connection.peer)

    def vacate(self, peer: Peer) -> None:
        """Return a place that was admitted."""
        self._count -= 1
        HTTP_CONNECTIONS.dec()
        peer.connections -= 1
        if not peer.connections:
            self._peers.pop((peer.address, peer.trusted), None)
        self._notify_free_place()

    def wait(self, connection: Connection, what: Wait | None) -> None:
        """Record what the client has to do next; None if its request is being processed."""
        if connection.waits is not None:
            del self._waiting[connection.waits][connection]
            del connection.peer.waiting[connection]
        connection.waits, connection.unread_since = what, None
        if what is not None:
            connection.since = self._clock()
            self._waiting[what][connection] = None
            connection.peer.waiting[connection] = None
            self._notify_free_place()

    def buffer(self, connection: Connection, size: int) -> None:
        """Record the number of bytes held for a connection.

        If the total exceeds the limit, the largest of the oldest holders releases its memory.
        """
        self._buffered += size - connection.buffered
        connection.buffered = size
        if size:
            self._buffering[connection] = None
        else:
            self._buffering.pop(connection, None)
        while self._buffered > self.limits.buffered_bytes and len(self._buffering) > 1:
            # The largest of the oldest: an ordinary client that waits for its turn holds little.
            first = max(islice(self._buffering, _CANDIDATES), key=lambda each: each.buffered)
            self.note("too-many-bytes", first.peer)
            first.release_memory()

    def note(self, reason: str, peer: Peer) -> None:
        """Count a client that was refused."""
        HTTP_TURNED_AWAY.labels(reason).inc()
        self._tally.note(reason, peer.address)

    def sweep(self) -> None:
        """Close connections that have waited too long, and write the log records that are due."""
        now = self._clock()
        if now - self._shrunk_at > SHRUNK_S:
            self._places = self.limits.connections
        for what, waiting in self._waiting.items():
            timeout = self._timeouts[what]
            while waiting and now - (first := next(iter(waiting))).since >= timeout:
                if not first.expire(now) and first.waits is what:
                    self.wait(first, what)
        self._tally.report(now)

    def _notify_free_place(self) -> None:
        if self.on_free_place is not None:
            on_free_place, self.on_free_place = self.on_free_place, None
            on_free_place()

    def _peer(self, address: str) -> Peer:
        key = network_of(address), _is_in(address, self.limits)
        return self._peers.get(key) or Peer(key[0], trusted=key[1])

    def _make_room(self, newcomer: Peer) -> None:
        share = self._places // (len(self._peers) + 1)
        greedy = not newcomer.trusted and newcomer.connections > share and newcomer.waiting
        first = next(iter(newcomer.waiting)) if greedy else self._eviction_candidate()
        if first is not None:
            self._drop(first, "no-place")

    def _eviction_candidate(self) -> Connection | None:
        """The longest-waiting connection in the most common wait, if its client has not acted; else None.

        Connections of an attack mostly wait for the same thing, so this is rarely an ordinary client, whose waits are
        short.
        """
        now = self._clock()
        for first in islice(self._most_common(), _CANDIDATES):
            if now - first.since < SETTLED_S:
                return None
            if not first.has_unread_input():
                return first
            if first.unread_since is None:
                first.unread_since = now
            if now - first.unread_since >= UNREAD_S:
                return first
        return None

    def _longest_waiting(self) -> Connection | None:
        return next(iter(self._most_common()), None)

    def _most_common(self) -> OrderedDict[Connection, None]:
        return max(self._waiting.values(), key=len)

    def _drop(self, connection: Connection, reason: str) -> None:
        self.note(reason, connection.peer)
        connection.drop()


def network_of(address: str) -> str:
    """The key of a peer: an IPv4 address, or the /64 network, which is what one customer gets in IPv6."""
    if ":" not in address:
        return address
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> _IPV6_NETWORK_BITS << _IPV6_NETWORK_BITS))


def _is_in(address: str, limits: HttpLimits) -> bool:
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in limits.trusted)
