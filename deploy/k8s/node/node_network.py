"""The network of the node: a namespace of its own, which a pair of virtual interfaces connects with this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Final

NAMESPACE: Final = "segue-node"
LINK: Final = "segue-node0"
MACHINE: Final = "10.250.0.1"
"""The address of this machine, where the API server listens."""
NODE: Final = "10.250.0.2"
PREFIX: Final = 24
PODS: Final = "10.244.0.0/24"
SERVICES: Final = "10.96.0.0/16"
"""The network of the API server's Services; kube-proxy leads to their pods."""
ENTER: Final = ("nsenter", f"--net=/run/netns/{NAMESPACE}")


def set_up() -> list[list[str]]:
    """The commands that make the network."""
    inside = ["ip", "-netns", NAMESPACE]
    return [
        ["ip", "netns", "add", NAMESPACE],
        ["ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE],
        ["ip", "address", "add", f"{MACHINE}/{PREFIX}", "dev", LINK],
        ["ip", "link", "set", LINK, "up"],
        [*inside, "address", "add", f"{NODE}/{PREFIX}", "dev", "eth0"],
        [*inside, "link", "set", "eth0", "up"],
        [*inside, "link", "set", "lo", "up"],
        [*inside, "route", "add", "default", "via", MACHINE],
        [*ENTER, "sysctl", "-qw", "net.ipv4.ip_forward=1"],
        ["ip", "route", "add", PODS, "via", NODE],
        ["ip", "route", "add", SERVICES, "via", NODE],
    ]


def taken_down() -> list[list[str]]:
    """The commands that remove it; the routes go with the interface."""
    return [["ip", "link", "delete", LINK], ["ip", "netns", "delete", NAMESPACE]]


@contextlib.contextmanager
def network() -> Iterator[None]:
    """The network for the length of the block. Raises CalledProcessError, also if there is one of its name already."""
    subprocess.run(set_up()[0], check=True)
    try:
        for command in set_up()[1:]:
            subprocess.run(command, check=True)
        yield
    finally:
        for command in taken_down():
            subprocess.run(command, check=False, capture_output=True)
