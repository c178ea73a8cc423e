"""Who gets a place, who gives way, and whose time is over."""

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
    """A connection that does as it is told."""

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


class House:
    """A guard, and those it let in."""

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


def test_of_what_most_wait_for_the_one_that_has_waited_longest_gives_way() -> None:
    house = House()
    idle = house.fill(Wait.REQUEST, 10)
    halves = house.fill(Wait.HEADERS, 30)
    for n in range(5):
        assert house.enter(f"192.0.2.{n}")
        assert [each for each in halves if each.gone] == halves[: n + 1]
    assert not any(each.gone for each in idle)
    assert len(house.inside) == 40


def test_nobody_gives_way_who_is_worked_on_or_has_just_come_or_has_sent_something() -> None:
    house = House()
    house.fill(None)
    assert house.enter() is None
    house = House()
    fresh = house.fill(Wait.HEADERS)
    house.clock.now -= SETTLED_S
    assert house.enter() is None
    house.clock.now += SETTLED_S
    for each in fresh[:5]:
        each.sent = True
    assert house.enter()
    assert [each for each in fresh if each.gone] == [fresh[5]]


def test_whoever_has_always_sent_something_gives_way_after_a_moment() -> None:
    for waits in (Wait.HEADERS, Wait.REQUEST, Wait.BODY, Wait.READ):
        house = House()
        for each in house.fill(waits):
            each.sent = True
        began = house.clock.now
        for n in range(10):
            while house.enter(f"192.0.2.{n}") is None:
                house.clock.now += SETTLED_S
                assert house.clock.now - began < UNREAD_S + 1
        assert len(house.inside) == 40


def test_being_looked_at_gives_nobody_more_time() -> None:
    house = House()
    own = house.fill(Wait.READ)
    for each in own:
        each.sent = True
    while house.clock.now - own[-1].since < LIMITS.write_timeout_s:
        assert house.guard.full in {True, False}
        house.clock.now += SETTLED_S
    house.guard.sweep()
    assert house.inside == []


def test_what_was_sent_is_forgotten_once_it_was_read() -> None:
    house = House()
    busy = house.fill(Wait.REQUEST)
    for _ in range(20):
        for each in busy:
            each.sent = True
        assert house.guard.full
        for each in busy:
            each.sent = False
            house.guard.wait(each, None)
            house.guard.wait(each, Wait.REQUEST)
        house.clock.now += UNREAD_S / 4


def test_who_found_no_place_hears_of_the_next_one() -> None:
    house, heard = House(), []
    working = house.fill(None)
    house.guard.on_free_place = lambda: heard.append(house.clock.now)
    house.guard.wait(working[0], Wait.REQUEST)
    house.guard.wait(working[1], Wait.REQUEST)
    assert len(heard) == 1


def test_one_address_has_its_share_and_then_makes_room_for_itself() -> None:
    house = House()
    own = [house.enter("192.0.2.7") for _ in range(12)]
    assert [each is not None and each.gone for each in own] == [True, True] + [False] * 10
    for each in own[2:]:
        assert each
        house.guard.wait(each, None)
    assert house.enter("192.0.2.7") is None
    assert house.enter("192.0.2.8")


def test_when_it_is_full_the_greedy_pay_before_the_others() -> None:
    house = House()
    others = house.fill(Wait.REQUEST, 32)
    own = [house.enter("192.0.2.7") for _ in range(8)]
    house.clock.now += 1
    assert house.enter("192.0.2.7")
    assert own[0]
    assert own[0].gone
    assert not any(each.gone for each in others)
    assert house.enter("192.0.2.9")
    assert others[0].gone


def test_trusted_addresses_are_no_peers() -> None:
    house = House()
    assert all(house.enter("10.1.2.3", None) for _ in range(30))
    assert all(house.enter("::ffff:10.1.2.3", None) for _ in range(10))


def test_a_network_of_ipv6_is_one_peer_and_a_mapped_address_is_its_own() -> None:
    house = House()
    for n in range(10):
        assert house.enter(f"2001:db8:0:1::{n:x}", None)
    assert house.enter("2001:db8:0:1:ffff::1", None) is None
    assert house.enter("2001:db8:0:2::1", None)
    assert house.enter("fe80::1%eth0", None)
    for _ in range(10):
        assert house.enter("192.0.2.1", None)
    assert house.enter("::ffff:192.0.2.1", None) is None


@pytest.mark.parametrize("proxy_first", [True, False])
def test_a_trusted_address_is_trusted_alone_and_not_its_network(proxy_first: bool) -> None:
    # The second is also the name of the network.
    house = House(replace(LIMITS, trusted=(ip_network("2001:db8::5/128"), ip_network("2001:db8:0:1::/128"))))
    for proxy, stranger in {"2001:db8::5": "2001:db8::6", "2001:db8:0:1::": "2001:db8:0:1::6"}.items():
        if proxy_first:
            assert all(house.enter(proxy, None) for _ in range(5))
        assert all(house.enter(stranger, None) for _ in range(10))
        assert house.enter(stranger, None) is None
        assert all(house.enter(proxy, None) for _ in range(5))
        assert house.enter(stranger, None) is None
    for each in house.inside:
        each.drop()
    assert not house.guard._peers


def test_each_wait_has_its_time() -> None:
    for what, seconds in {
        Wait.HEADERS: 10,
        Wait.REQUEST: 75,
        Wait.BODY: 10,
        Wait.READ: 30,
        Wait.CLOSE: 2,
    }.items():
        house = House()
        one = house.enter(waits=what)
        assert one
        house.clock.now = one.since + seconds - 0.1
        house.guard.sweep()
        gone = [one.gone]
        house.clock.now += 0.2
        house.guard.sweep()
        assert [*gone, one.gone] == [False, True]
        assert not house.guard._peers


def test_another_term_begins_when_the_last_was_looked_at() -> None:
    house = House()
    one = house.enter(waits=Wait.READ)
    assert one
    one.patience = 1
    house.clock.now += 31
    house.guard.sweep()
    house.clock.now += 29
    house.guard.sweep()
    assert not one.gone
    house.clock.now += 2
    house.guard.sweep()
    assert one.gone


def test_whoever_is_worked_on_has_all_the_time() -> None:
    house = House()
    one = house.enter(waits=None)
    house.clock.now += 100_000
    house.guard.sweep()
    assert one
    assert not one.gone


def test_past_the_bytes_for_all_whoever_holds_most_is_dropped_but_never_the_only_one() -> None:
    house = House()
    first, second, third = (house.enter() for _ in range(3))
    assert first
    assert second
    assert third
    house.guard.buffer(first, 5000)
    gone = [first.gone]
    house.guard.buffer(second, 10)
    gone.append(first.gone)
    house.guard.buffer(third, 900)
    house.guard.buffer(second, 100)
    gone.append(second.gone)
    house.guard.buffer(third, 901)
    assert [*gone, second.gone, third.gone] == [False, True, False, False, True]


def test_of_those_that_hold_as_much_the_oldest_is_dropped() -> None:
    house = House()
    entered = [house.enter() for _ in range(3)]
    for each in entered:
        assert each
        house.guard.buffer(each, 400)
    assert [each.gone for each in entered if each] == [True, False, False]


def test_without_files_there_are_fewer_places_for_a_while() -> None:
    house = House()
    house.fill(Wait.HEADERS, 30)
    house.guard.shrink()
    assert len(house.inside) == 14
    house.fill(Wait.HEADERS, 30)
    assert len(house.inside) == 14
    house.clock.now += SHRUNK_S + 1
    for each in house.inside:
        each.patience = 10
    house.guard.sweep()
    house.fill(Wait.HEADERS, 50)
    assert len(house.inside) == 40


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
def test_whatever_happens_the_books_are_right(steps: list[tuple[str, int, Wait | None, int]]) -> None:
    house = House(replace(LIMITS, connections=8, connections_per_peer=3))
    for what, n, wait, size in steps:
        one = house.inside[n % len(house.inside)] if house.inside else None
        house.clock.now += n / 50
        match what:
            case "enter":
                house.enter(f"192.0.2.{n % 5}", wait)
            case "sweep":
                house.guard.sweep()
            case "shrink":
                house.guard.shrink()
            case "wait" if one:
                house.guard.wait(one, wait)
            case "buffer" if one:
                house.guard.buffer(one, size)
            case "leave" if one:
                one.drop()
        inside = house.inside
        assert house.guard._count == len(inside) <= 8
        assert house.guard._buffered == sum(each.buffered for each in inside)
        assert house.guard._buffered <= 1000 or len(house.guard._buffering) == 1
        assert sum(peer.connections for peer in house.guard._peers.values()) == len(inside)
        assert all(peer.connections <= 3 for peer in house.guard._peers.values())
        waiting = {id(each) for each in inside if each.waits is not None}
        assert {id(each) for queue in house.guard._waiting.values() for each in queue} == waiting
        assert {id(each) for peer in house.guard._peers.values() for each in peer.waiting} == waiting
