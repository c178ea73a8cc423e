"""The guard of a listener: which connections are admitted, closed for others, or closed after a timeout."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.guard import SETTLED_S, SHRUNK_S, UNREAD_S, Guard, Peer, Wait
from chassis.settings.http_limits import HttpLimits

LIMITS = HttpLimits(connections=40, connections_per_peer=10, trusted=(ip_network("10.0.0.0/8"),), buffered_bytes=1000)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Held:
    """A connection that the test controls."""

    def __init__(self, guard: Guard, peer: Peer) -> None:
        self.guard, self.peer = guard, peer
        self.waits: Wait | None = None
        self.since = 0.0
        self.unread_since: float | None = None
        self.buffered = 0
        self.sent = False
        self.patience = 0
        self.gone = False

    def has_unread_input(self) -> bool:
        return self.sent

    def expire(self, now: float) -> bool:
        if self.patience:
            self.patience -= 1
            return False
        self.drop()
        return True

    def release_memory(self) -> None:
        self.drop()

    def drop(self) -> None:
        assert not self.gone
        self.gone = True
        self.guard.release(self)


class GuardedListener:
    """A guard and the connections that it has admitted."""

    def __init__(self, limits: HttpLimits = LIMITS) -> None:
        self.clock = Clock()
        self.guard = Guard(limits, self.clock)
        self.held: list[Held] = []

    def enter(self, address: str = "192.0.2.1", waits: Wait | None = Wait.HEADERS) -> Held | None:
        if self.guard.full:
            return None
        peer = self.guard.admit(address)
        if peer is None:
            return None
        self.held.append(Held(self.guard, peer))
        self.guard.wait(self.held[-1], waits)
        self.clock.now += 0.001
        return self.held[-1]

    def fill(self, waits: Wait | None, count: int = 40) -> list[Held]:
        entered = [self.enter(f"198.51.100.{n}", waits) for n in range(count)]
        self.clock.now += SETTLED_S
        return [each for each in entered if each is not None]

    @property
    def inside(self) -> list[Held]:
        return [each for each in self.held if not each.gone]


def test_the_longest_waiting_connection_of_the_most_common_wait_is_closed_first() -> None:
    listener = GuardedListener()
    idle = listener.fill(Wait.REQUEST, 10)
    halves = listener.fill(Wait.HEADERS, 30)
    for n in range(5):
        assert listener.enter(f"192.0.2.{n}")
        assert [each for each in halves if each.gone] == halves[: n + 1]
    assert not any(each.gone for each in idle)
    assert len(listener.inside) == 40


def test_no_connection_is_closed_that_is_in_progress_or_new_or_has_sent_bytes() -> None:
    listener = GuardedListener()
    listener.fill(None)
    assert listener.enter() is None
    listener = GuardedListener()
    fresh = listener.fill(Wait.HEADERS)
    listener.clock.now -= SETTLED_S
    assert listener.enter() is None
    listener.clock.now += SETTLED_S
    for each in fresh[:5]:
        each.sent = True
    assert listener.enter()
    assert [each for each in fresh if each.gone] == [fresh[5]]


def test_a_connection_with_unread_bytes_can_be_closed_after_a_moment() -> None:
    for waits in (Wait.HEADERS, Wait.REQUEST, Wait.BODY, Wait.READ):
        listener = GuardedListener()
        for each in listener.fill(waits):
            each.sent = True
        began = listener.clock.now
        for n in range(10):
            while listener.enter(f"192.0.2.{n}") is None:
                listener.clock.now += SETTLED_S
                assert listener.clock.now - began < UNREAD_S + 1
        assert len(listener.inside) == 40


def test_being_examined_does_not_extend_a_timeout() -> None:
    listener = GuardedListener()
    own = listener.fill(Wait.READ)
    for each in own:
        each.sent = True
    while listener.clock.now - own[-1].since < LIMITS.write_timeout_s:
        assert listener.guard.full in {True, False}
        listener.clock.now += SETTLED_S
    listener.guard.sweep()
    assert listener.inside == []


def test_unread_bytes_no_longer_count_once_they_are_read() -> None:
    listener = GuardedListener()
    busy = listener.fill(Wait.REQUEST)
    for _ in range(20):
        for each in busy:
            each.sent = True
        assert listener.guard.full
        for each in busy:
            each.sent = False
            listener.guard.wait(each, None)
            listener.guard.wait(each, Wait.REQUEST)
        listener.clock.now += UNREAD_S / 4


def test_a_caller_that_found_no_place_is_notified_once_of_the_next_one() -> None:
    listener, notified = GuardedListener(), []
    working = listener.fill(None)
    listener.guard.on_free_place = lambda: notified.append(listener.clock.now)
    listener.guard.wait(working[0], Wait.REQUEST)
    listener.guard.wait(working[1], Wait.REQUEST)
    assert len(notified) == 1


def test_an_address_at_its_limit_replaces_its_own_connections() -> None:
    listener = GuardedListener()
    own = [listener.enter("192.0.2.7") for _ in range(12)]
    assert [each is not None and each.gone for each in own] == [True, True] + [False] * 10
    for each in own[2:]:
        assert each
        listener.guard.wait(each, None)
    assert listener.enter("192.0.2.7") is None
    assert listener.enter("192.0.2.8")


def test_a_full_listener_first_closes_connections_of_an_address_over_its_share() -> None:
    listener = GuardedListener()
    others = listener.fill(Wait.REQUEST, 32)
    own = [listener.enter("192.0.2.7") for _ in range(8)]
    listener.clock.now += 1
    assert listener.enter("192.0.2.7")
    assert own[0]
    assert own[0].gone
    assert not any(each.gone for each in others)
    assert listener.enter("192.0.2.9")
    assert others[0].gone


def test_trusted_addresses_have_no_limit() -> None:
    listener = GuardedListener()
    assert all(listener.enter("10.1.2.3", None) for _ in range(30))
    assert all(listener.enter("::ffff:10.1.2.3", None) for _ in range(10))


def test_an_ipv6_network_is_one_peer_and_a_mapped_address_is_its_ipv4_address() -> None:
    listener = GuardedListener()
    for n in range(10):
        assert listener.enter(f"2001:db8:0:1::{n:x}", None)
    assert listener.enter("2001:db8:0:1:ffff::1", None) is None
    assert listener.enter("2001:db8:0:2::1", None)
    assert listener.enter("fe80::1%eth0", None)
    for _ in range(10):
        assert listener.enter("192.0.2.1", None)
    assert listener.enter("::ffff:192.0.2.1", None) is None


@pytest.mark.parametrize("proxy_first", [True, False])
def test_trusting_an_address_does_not_trust_its_network(proxy_first: bool) -> None:
    # The second address is also the address of its network.
    listener = GuardedListener(
        replace(LIMITS, trusted=(ip_network("2001:db8::5/128"), ip_network("2001:db8:0:1::/128")))
    )
    for proxy, stranger in {"2001:db8::5": "2001:db8::6", "2001:db8:0:1::": "2001:db8:0:1::6"}.items():
        if proxy_first:
            assert all(listener.enter(proxy, None) for _ in range(5))
        assert all(listener.enter(stranger, None) for _ in range(10))
        assert listener.enter(stranger, None) is None
        assert all(listener.enter(proxy, None) for _ in range(5))
        assert listener.enter(stranger, None) is None
    for each in listener.inside:
        each.drop()
    assert not listener.guard._peers


def test_each_wait_has_a_timeout() -> None:
    for what, seconds in {
        Wait.HEADERS: 10,
        Wait.REQUEST: 75,
        Wait.BODY: 10,
        Wait.READ: 30,
        Wait.CLOSE: 2,
    }.items():
        listener = GuardedListener()
        one = listener.enter(waits=what)
        assert one
        listener.clock.now = one.since + seconds - 0.1
        listener.guard.sweep()
        gone = [one.gone]
        listener.clock.now += 0.2
        listener.guard.sweep()
        assert [*gone, one.gone] == [False, True]
        assert not listener.guard._peers


def test_an_extended_wait_starts_when_the_last_one_was_examined() -> None:
    listener = GuardedListener()
    one = listener.enter(waits=Wait.READ)
    assert one
    one.patience = 1
    listener.clock.now += 31
    listener.guard.sweep()
    listener.clock.now += 29
    listener.guard.sweep()
    assert not one.gone
    listener.clock.now += 2
    listener.guard.sweep()
    assert one.gone


def test_a_request_in_progress_has_no_timeout() -> None:
    listener = GuardedListener()
    one = listener.enter(waits=None)
    listener.clock.now += 100_000
    listener.guard.sweep()
    assert one
    assert not one.gone


def test_over_the_byte_limit_the_largest_holder_is_closed_but_never_the_only_one() -> None:
    listener = GuardedListener()
    first, second, third = (listener.enter() for _ in range(3))
    assert first
    assert second
    assert third
    listener.guard.buffer(first, 5000)
    gone = [first.gone]
    listener.guard.buffer(second, 10)
    gone.append(first.gone)
    listener.guard.buffer(third, 900)
    listener.guard.buffer(second, 100)
    gone.append(second.gone)
    listener.guard.buffer(third, 901)
    assert [*gone, second.gone, third.gone] == [False, True, False, False, True]


def test_of_equal_holders_the_oldest_is_closed() -> None:
    listener = GuardedListener()
    entered = [listener.enter() for _ in range(3)]
    for each in entered:
        assert each
        listener.guard.buffer(each, 400)
    assert [each.gone for each in entered if each] == [True, False, False]


def test_out_of_files_fewer_connections_are_allowed_for_a_while() -> None:
    listener = GuardedListener()
    listener.fill(Wait.HEADERS, 30)
    listener.guard.shrink()
    assert len(listener.inside) == 14
    listener.fill(Wait.HEADERS, 30)
    assert len(listener.inside) == 14
    listener.clock.now += SHRUNK_S + 1
    for each in listener.inside:
        each.patience = 10
    listener.guard.sweep()
    listener.fill(Wait.HEADERS, 50)
    assert len(listener.inside) == 40


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "wait", "buffer", "leave", "sweep", "shrink"]),
        st.integers(0, 100),
        st.sampled_from([None, *Wait]),
        st.integers(0, 2000),
    ),
    max_size=80,
)


@given(STEPS)
def test_the_counts_and_indexes_agree_after_any_sequence_of_events(
    steps: list[tuple[str, int, Wait | None, int]],
) -> None:
    listener = GuardedListener(replace(LIMITS, connections=8, connections_per_peer=3))
    for what, n, wait, size in steps:
        one = listener.inside[n % len(listener.inside)] if listener.inside else None
        listener.clock.now += n / 50
        match what:
            case "enter":
                listener.enter(f"192.0.2.{n % 5}", wait)
            case "sweep":
                listener.guard.sweep()
            case "shrink":
                listener.guard.shrink()
            case "wait" if one:
                listener.guard.wait(one, wait)
            case "buffer" if one:
                listener.guard.buffer(one, size)
            case "leave" if one:
                one.drop()
        inside = listener.inside
        assert listener.guard._count == len(inside) <= 8
        assert listener.guard._buffered == sum(each.buffered for each in inside)
        assert listener.guard._buffered <= 1000 or len(listener.guard._buffering) == 1
        assert sum(peer.connections for peer in listener.guard._peers.values()) == len(inside)
        assert all(peer.connections <= 3 for peer in listener.guard._peers.values())
        waiting = {id(each) for each in inside if each.waits is not None}
        assert {id(each) for queue in listener.guard._waiting.values() for each in queue} == waiting
        assert {id(each) for peer in listener.guard._peers.values() for each in peer.waiting} == waiting
