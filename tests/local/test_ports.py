"""Ports stay free until their process listens, and while it restarts."""

from __future__ import annotations

import socket

import pytest

from contracts.topics import SERVICES
from segue_cli.local import ports
from segue_cli.local.ports import LOOPBACK, NoFreePort, free_port, is_free
from segue_cli.stack.components import StackFailed
from segue_cli.stack.services import choose_ports


def test_a_free_port_is_below_the_range_of_outgoing_connections() -> None:
    for _ in range(20):
        port = free_port()
        assert port in ports.QUIET
        assert is_free(port)
    with socket.create_server((LOOPBACK, 0)) as drawn:
        assert drawn.getsockname()[1] not in ports.QUIET, "the system takes its ports from another range"


def test_a_port_that_is_listened_on_is_not_free() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
        with pytest.raises(NoFreePort):
            free_port(range(port, port + 1))


def test_services_get_the_ports_after_the_first_one_if_these_are_free() -> None:
    first = next(port for port in iter(free_port, None) if all(map(is_free, range(port, port + len(SERVICES)))))
    assert list(choose_ports(first).values()) == list(range(first, first + len(SERVICES)))
    with socket.create_server((LOOPBACK, first + 1)):
        chosen = choose_ports(first)
        assert chosen["gateway"] == first
        assert len({*chosen.values()} - {first + 1}) == len(SERVICES)
    with socket.create_server((LOOPBACK, first)), pytest.raises(StackFailed, match="choose another one with --port"):
        choose_ports(first)


def test_without_a_first_port_each_service_gets_a_free_one() -> None:
    assert len(set(choose_ports(0).values())) == len(SERVICES)
