"""Who may hold a connection of a listener, and for how long: places, what clients are waited for, and who gives way.

A connection whose client has to do something next waits: for the rest of a request, for the next request, for the
client to read. Those that wait too long are ended, and where there is no place left, one of them makes room. A
connection on which a request is being worked on is left alone, however long that takes.
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
"""How long a client may take to read why it was turned away; until then what it sends is thrown away."""
SETTLED_S: Final = 0.1
"""Nobody gives way before that: an ordinary client has sent its request by then."""
UNREAD_S: Final = 1.0
"""For so long, what a client has sent and nobody has read yet keeps its place; all there is to read is read sooner."""
_LOOKED_AT: Final = 16
SHRUNK_S: Final = 60.0
_SPARE_FILES: Final = 16
_IPV6_NETWORK_BITS: Final = 64


class Wait(Enum):
    """What a client has to do next."""

    CLOSE = "close"
    HEADERS = "headers"
    REQUEST = "request"
    BODY = "body"
    READ = "read"


class Peer:
    """The connections of one address, or of one network; those of a trusted address are a peer of their own."""

    __slots__ = ("address", "connections", "trusted", "waiting")

    def __init__(self, address: str, *, trusted: bool) -> None:
        self.address = address
        self.trusted = trusted
        self.connections = 0
        self.waiting: OrderedDict[Connection, None] = OrderedDict()


class Connection(Protocol):
    """What the guard needs of a connection."""

    peer: Peer
    waits: Wait | None
    since: float
    """When it began to wait, or its present term did."""
    unread_since: float | None
    """When it was first found in this wait to have sent something."""
    buffered: int
    """Bytes that are counted for it."""

    def has_sent(self) -> bool:
        """Whether there is something from its client that this process has not come round to read."""

    def relieve(self) -> None:
        """Hold nothing that is counted any more; end it, unless a request of it is being worked on."""

    def expire(self, now: float) -> bool:
        """Its time is over: have it wait for something else or end it, or return False for another term."""

    def drop(self) -> None:
        """End it at once, and release it."""


class Guard:
    """The connections of one listener."""

    def __init__(self, limits: HttpLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.reading = memoryview(bytearray(65_536))
        """What sockets are read into: one for all, since it is parsed before the next one is read."""
        self._clock = clock
        self._count = 0
        self._places = limits.connections
        self._shrunk_at = 0.0
        self._peers: dict[tuple[str, bool], Peer] = {}
        self._waiting: dict[Wait, OrderedDict[Connection, None]] = {wait: OrderedDict() for wait in Wait}
        self._terms = {
            Wait.CLOSE: CLOSING_S,
            Wait.HEADERS: limits.header_timeout_s,
            Wait.REQUEST: limits.idle_timeout_s,
            # Looked at half-way, for its rate.
            Wait.BODY: limits.body_timeout_s / 2,
            Wait.READ: limits.write_timeout_s,
        }
        self._buffering: OrderedDict[Connection, None] = OrderedDict()
        self._buffered = 0
        self._tally = Tally(get_logger("chassis.http.server"), HttpEvent.CLIENTS_TURNED_AWAY)
        self.on_room: Callable[[], None] | None = None
        """Called once there may be a place again; set by who found none."""
        self.wanted = False
        """Whether somebody waits for a place; noted by who accepts."""

    @property
    def full(self) -> bool:
        """Whether nobody can be admitted right now."""
        return self._count >= self._places and self._first_to_go() is None

    def admit(self, address: str) -> Peer | None:
        """A place for a new connection, made if need be; None if all of that address's own are being worked on."""
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
        """The process is out of files: have fewer connections for a while."""
        self._places = max(1, min(self._places, self._count) - _SPARE_FILES)
        self._shrunk_at = self._clock()
        while self._count > self._places and (first := self._longest_waiting()) is not None:
            self._drop(first, "no-files")

    def release(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.wait(connection, None)
        self.buffer(connection, 0)
        self.vacate(connection.peer)

    def vacate(self, peer: Peer) -> None:
        """Give back a place that was admitted."""
        self._count -= 1
        HTTP_CONNECTIONS.dec()
        peer.connections -= 1
        if not peer.connections:
            self._peers.pop((peer.address, peer.trusted), None)
        self._tell_of_room()

    def wait(self, connection: Connection, what: Wait | None) -> None:
        """Note what its client has to do next; None: nothing, its request is being worked on."""
        if connection.waits is not None:
            del self._waiting[connection.waits][connection]
            del connection.peer.waiting[connection]
        connection.waits, connection.unread_since = what, None
        if what is not None:
            connection.since = self._clock()
            self._waiting[what][connection] = None
            connection.peer.waiting[connection] = None
            self._tell_of_room()

    def buffer(self, connection: Connection, size: int) -> None:
        """Count the bytes that are held for a connection.

        Where all together hold too many, the one that holds most of the oldest is relieved.
        """
        self._buffered += size - connection.buffered
        connection.buffered = size
        if size:
            self._buffering[connection] = None
        else:
            self._buffering.pop(connection, None)
        while self._buffered > self.limits.buffered_bytes and len(self._buffering) > 1:
            # Of the oldest, the one with most: an ordinary client that waits for its turn has little.
            first = max(islice(self._buffering, _LOOKED_AT), key=lambda each: each.buffered)
            self.note("too-many-bytes", first.peer)
            first.relieve()

    def note(self, reason: str, peer: Peer) -> None:
        """Count a client that was turned away."""
        HTTP_TURNED_AWAY.labels(reason).inc()
        self._tally.note(reason, peer.address)

    def sweep(self) -> None:
        """End those that have waited for too long, and log what is due."""
        now = self._clock()
        if now - self._shrunk_at > SHRUNK_S:
            self._places = self.limits.connections
        for what, waiting in self._waiting.items():
            term = self._terms[what]
            while waiting and now - (first := next(iter(waiting))).since >= term:
                if not first.expire(now) and first.waits is what:
                    self.wait(first, what)
        self._tally.report(now)

    def _tell_of_room(self) -> None:
        if self.on_room is not None:
            on_room, self.on_room = self.on_room, None
            on_room()

    def _peer(self, address: str) -> Peer:
        key = network_of(address), _is_in(address, self.limits)
        return self._peers.get(key) or Peer(key[0], trusted=key[1])

    def _make_room(self, newcomer: Peer) -> None:
        share = self._places // (len(self._peers) + 1)
        greedy = not newcomer.trusted and newcomer.connections > share and newcomer.waiting
        first = next(iter(newcomer.waiting)) if greedy else self._first_to_go()
        if first is not None:
            self._drop(first, "no-place")

    def _first_to_go(self) -> Connection | None:
        """Of what most of them wait for, the one that has waited longest, and whose client has not done its part.

        Strangers do mostly the same, so it is rarely an ordinary client, whose waiting is short.
        """
        now = self._clock()
        for first in islice(self._most_common(), _LOOKED_AT):
            if now - first.since < SETTLED_S:
                return None
            if not first.has_sent():
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
    """What is counted as one peer: an IPv4 address, or the /64 network that one customer gets in IPv6."""
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
