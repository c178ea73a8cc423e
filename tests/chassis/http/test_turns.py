"""The order in which waiting requests are started, and which ones are refused."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.turns import MAX_IN_PROGRESS, SLOW_S, STARTED_PER_ITERATION, Turns

MOST = 10


class Loop:
    """An event loop that runs one iteration at a time."""

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
        """Advance the clock, and run the timers that are due."""
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
    def __init__(self, server: Server, client: str, number: int) -> None:
        self.server, self.client, self.number = server, client, number
        self.ticket = 0

    def start_request(self, ticket: int) -> None:
        self.ticket = ticket
        self.server.started.append(self)

    def reject_request(self) -> None:
        self.server.turned_away.append(self)


class Server:
    def __init__(self, most: int = MOST) -> None:
        self.loop = Loop()
        self.turns = Turns(most, self.loop)
        self.started: list[Request] = []
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
        return "".join(each.client for each in self.started)


@pytest.fixture
def server() -> Server:
    return Server()


def test_clients_take_turns_however_many_requests_one_of_them_sends(server: Server) -> None:
    server.ask("aaaaaabac")
    while server.loop.turn():
        pass
    assert server.order() == "aabcaaaaa"


def test_a_client_is_served_in_the_order_of_its_requests(server: Server) -> None:
    server.ask("aabbabba")
    while server.loop.turn():
        pass
    for client in "ab":
        mine = [each.number for each in server.started if each.client == client]
        assert mine == sorted(mine)


def test_only_a_few_requests_are_started_in_one_iteration_of_the_loop(server: Server) -> None:
    server.ask("a" * MOST)
    assert len(server.started) == 1
    server.loop.turn()
    assert len(server.started) == 1 + STARTED_PER_ITERATION


def test_a_bounded_number_of_requests_is_processed_at_a_time() -> None:
    server = Server(2 * MAX_IN_PROGRESS)
    server.ask("a" * (MAX_IN_PROGRESS + 3))
    while server.loop.turn():
        pass
    assert len(server.started) == MAX_IN_PROGRESS
    server.ask("b")
    while server.loop.turn():
        pass
    assert len(server.started) == MAX_IN_PROGRESS
    server.turns.done(server.started[0].ticket)
    server.turns.done(server.started[0].ticket)
    server.turns.done(server.started[1].ticket)
    while server.loop.turn():
        pass
    assert server.order()[MAX_IN_PROGRESS:] == "ab"


def test_slow_requests_do_not_count_towards_the_bound() -> None:
    server = Server(2 * MAX_IN_PROGRESS)
    server.ask("a" * (MAX_IN_PROGRESS + 3))
    while server.loop.turn():
        pass
    assert (len(server.started), len(server.loop.timers)) == (MAX_IN_PROGRESS, 1)
    server.loop.pass_time(SLOW_S)
    while server.loop.turn():
        pass
    assert (len(server.started), server.loop.timers) == (MAX_IN_PROGRESS + 3, [])
    server.turns.done(server.started[0].ticket)
    server.ask("a" * MAX_IN_PROGRESS)
    while server.loop.turn():
        pass
    assert len(server.started) == 2 * MAX_IN_PROGRESS


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
def test_if_too_many_wait_the_latest_of_the_client_with_the_most_is_refused(
    server: Server, asked: str, away: str
) -> None:
    server.ask("x")  # It is started at once.
    mine = server.ask(asked)
    server.loop.turn()
    assert "".join(each.client for each in server.turned_away) == away
    for client, count in Counter(away).items():
        latest = [each for each in mine if each.client == client][-count:]
        assert [each for each in reversed(server.turned_away) if each.client == client] == latest


def test_a_request_whose_client_left_is_not_started(server: Server) -> None:
    started, first, second, third = server.ask("xaab")
    server.turns.remove("a", first)
    server.turns.remove("b", third)
    while server.loop.turn():
        pass
    assert server.started == [started, second]


@given(st.lists(st.one_of(st.sampled_from("abc"), st.just("turn"), st.just("leave"), st.just("done")), max_size=200))
def test_each_request_is_started_or_refused_or_leaves_exactly_once(events: list[str]) -> None:
    server, asked, left = Server(), list[Request](), list[Request]()
    done = 0
    for what in events:
        waiting = [each for each in asked if each not in (*server.started, *server.turned_away, *left)]
        if what == "turn":
            server.loop.turn()
            assert len(server.started) - done <= MAX_IN_PROGRESS
        elif what == "leave" and waiting:
            left.append(waiting[len(waiting) // 2])
            server.turns.remove(left[-1].client, left[-1])
        elif what == "done" and done < len(server.started):
            server.turns.done(server.started[done].ticket)
            done += 1
        elif what in "abc":
            asked += server.ask(what)
    while server.loop.turn():
        while done < len(server.started):
            server.turns.done(server.started[done].ticket)
            done += 1
    assert sorted(each.number for each in (*server.started, *server.turned_away, *left)) == list(
        range(1, len(asked) + 1)
    )
