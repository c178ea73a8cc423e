"""Which request is begun next, and which not at all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.turns import MAX_IN_PROGRESS, SLOW_S, STARTED_PER_ITERATION, Turns

MOST = 10


class Loop:
    """Calls what it is given, a turn at a time."""

    def __init__(self) -> None:
        self.due: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, call))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and call what is due then."""
        self.now += seconds
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [(at, call) for at, call in self.timers if at > self.now]
        for call in due:
            call()

    def turn(self) -> bool:
        due, self.due = self.due, deque()
        for each in due:
            each()
        return bool(due)


class Request:
    def __init__(self, house: House, client: str, number: int) -> None:
        self.house, self.client, self.number = house, client, number
        self.ticket = 0

    def start_request(self, ticket: int) -> None:
        self.ticket = ticket
        self.house.begun.append(self)

    def reject_request(self) -> None:
        self.house.turned_away.append(self)


class House:
    def __init__(self, most: int = MOST) -> None:
        self.loop = Loop()
        self.turns = Turns(most, self.loop)
        self.begun: list[Request] = []
        self.turned_away: list[Request] = []
        self.number = 0

    def ask(self, clients: str) -> list[Request]:
        asked = []
        for client in clients:
            self.number += 1
            asked.append(Request(self, client, self.number))
            self.turns.add(client, asked[-1])
        return asked

    def order(self) -> str:
        return "".join(each.client for each in self.begun)


@pytest.fixture
def house() -> House:
    return House()


def test_clients_take_turns_however_much_one_of_them_asks(house: House) -> None:
    house.ask("aaaaaabac")
    while house.loop.turn():
        pass
    assert house.order() == "aabcaaaaa"


def test_a_client_is_served_in_the_order_of_its_requests(house: House) -> None:
    house.ask("aabbabba")
    while house.loop.turn():
        pass
    for client in "ab":
        mine = [each.number for each in house.begun if each.client == client]
        assert mine == sorted(mine)


def test_a_few_are_begun_in_one_turn_of_the_loop(house: House) -> None:
    house.ask("a" * MOST)
    assert len(house.begun) == 1
    house.loop.turn()
    assert len(house.begun) == 1 + STARTED_PER_ITERATION


def test_no_more_are_worked_on_than_there_is_work_for() -> None:
    house = House(2 * MAX_IN_PROGRESS)
    house.ask("a" * (MAX_IN_PROGRESS + 3))
    while house.loop.turn():
        pass
    assert len(house.begun) == MAX_IN_PROGRESS
    house.ask("b")
    while house.loop.turn():
        pass
    assert len(house.begun) == MAX_IN_PROGRESS
    house.turns.done(house.begun[0].ticket)
    house.turns.done(house.begun[0].ticket)
    house.turns.done(house.begun[1].ticket)
    while house.loop.turn():
        pass
    assert house.order()[MAX_IN_PROGRESS:] == "ab"


def test_what_takes_long_keeps_nobody_from_being_begun() -> None:
    house = House(2 * MAX_IN_PROGRESS)
    house.ask("a" * (MAX_IN_PROGRESS + 3))
    while house.loop.turn():
        pass
    assert (len(house.begun), len(house.loop.timers)) == (MAX_IN_PROGRESS, 1)
    house.loop.pass_time(SLOW_S)
    while house.loop.turn():
        pass
    assert (len(house.begun), house.loop.timers) == (MAX_IN_PROGRESS + 3, [])
    house.turns.done(house.begun[0].ticket)
    house.ask("a" * MAX_IN_PROGRESS)
    while house.loop.turn():
        pass
    assert len(house.begun) == 2 * MAX_IN_PROGRESS


@pytest.mark.parametrize(
    ("asked", "away"),
    [
        ("a" * MOST, ""),
        ("a" * MOST + "b", "a"),
        ("a" * MOST + "bc", "aa"),
        ("b" + "a" * MOST + "b", "aa"),
        ("aaaaabbbbbc", "b"),
        ("abcdefghijk", "k"),
    ],
)
def test_where_too_many_wait_the_latest_of_who_has_most_is_turned_away(house: House, asked: str, away: str) -> None:
    house.ask("x")  # It is begun at once.
    mine = house.ask(asked)
    house.loop.turn()
    assert "".join(each.client for each in house.turned_away) == away
    for client, count in Counter(away).items():
        latest = [each for each in mine if each.client == client][-count:]
        assert [each for each in reversed(house.turned_away) if each.client == client] == latest


def test_who_has_left_has_no_turn(house: House) -> None:
    begun, first, second, third = house.ask("xaab")
    house.turns.remove("a", first)
    house.turns.remove("b", third)
    while house.loop.turn():
        pass
    assert house.begun == [begun, second]


@given(st.lists(st.one_of(st.sampled_from("abc"), st.just("turn"), st.just("leave"), st.just("done")), max_size=200))
def test_each_is_begun_or_turned_away_or_leaves_and_only_once(happenings: list[str]) -> None:
    house, asked, left = House(), list[Request](), list[Request]()
    done = 0
    for what in happenings:
        waiting = [each for each in asked if each not in (*house.begun, *house.turned_away, *left)]
        if what == "turn":
            house.loop.turn()
            assert len(house.begun) - done <= MAX_IN_PROGRESS
        elif what == "leave" and waiting:
            left.append(waiting[len(waiting) // 2])
            house.turns.remove(left[-1].client, left[-1])
        elif what == "done" and done < len(house.begun):
            house.turns.done(house.begun[done].ticket)
            done += 1
        elif what in "abc":
            asked += house.ask(what)
    while house.loop.turn():
        while done < len(house.begun):
            house.turns.done(house.begun[done].ticket)
            done += 1
    assert sorted(each.number for each in (*house.begun, *house.turned_away, *left)) == list(range(1, len(asked) + 1))
