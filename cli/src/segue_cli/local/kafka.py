"""Kafka's protocol without a broker: librdkafka's mock cluster, in a separate process.

It keeps records in memory only, and of each partition at most the newest 5 MiB or 100,000 batches; a consumer with more
lag loses records. Topics are given on the command line, or are created with four partitions when a client requests
them; CreateTopics is not supported.
"""

import argparse
import asyncio
import ctypes
import json
import os
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue_cli.local.process import Child, LineSink, child, ready_with, until_told

_FIRST_JOIN_MS = 100
_BETWEEN_CALLS_S = 0.002
"""librdkafka misses the second of two calls in quick succession, and polls again only after a second."""
_PRODUCER = 0
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class LocalKafka:
    """The address of the embedded cluster, and its process."""

    bootstrap_servers: str
    process: Child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@asynccontextmanager
async def kafka(
    topics: Mapping[str, int], *, brokers: int = 1, port: int = 0, on_line: LineSink | None = None
) -> AsyncIterator[LocalKafka]:
    """Run an embedded cluster with these topics (name to partitions) for the length of the block.

    With a `port`, broker n listens on `port + n - 1`, so that an address outlives a restart; the records do not.
    """
    argv = command(topics, brokers=brokers, port=port)
    async with child(argv, name="kafka", on_line=on_line, ready=ready_with("bootstrap_servers")) as process:
        yield LocalKafka(process.ready["bootstrap_servers"], process)


def command(topics: Mapping[str, int], *, brokers: int = 1, port: int = 0) -> list[str]:
    """The command line that starts such a cluster."""
    argv = [sys.executable, "-m", "segue_cli.local.kafka", "--brokers", str(brokers), "--port", str(port)]
    return [*argv, "--topics", ",".join(f"{name}:{partitions}" for name, partitions in topics.items())]


@contextmanager
def cluster(topics: Mapping[str, int], *, brokers: int, port: int) -> Iterator[str]:
    """The cluster itself, in this process; yields its bootstrap servers."""
    lib = _librdkafka()
    conf = lib.rd_kafka_conf_new()
    lib.rd_kafka_conf_set(conf, b"log_level", b"3", None, 0)  # otherwise it warns that it has no bootstrap servers
    client = lib.rd_kafka_new(_PRODUCER, conf, None, 0)
    handle = lib.rd_kafka_mock_cluster_new(client, brokers)
    if not client or not handle:
        raise OSError("librdkafka could not start its cluster")
    try:
        bootstrap = lib.rd_kafka_mock_cluster_bootstraps(handle).decode()
        if port:
            bootstrap = _move(lib, handle, bootstrap, port)
        lib.rd_kafka_mock_group_initial_rebalance_delay_ms(handle, _FIRST_JOIN_MS)
        for name, partitions in topics.items():
            time.sleep(_BETWEEN_CALLS_S)
            if code := lib.rd_kafka_mock_topic_create(handle, name.encode(), partitions, brokers):
                raise ValueError(f"topic {name!r} with {partitions} partitions was refused with Kafka's error {code}")
        yield bootstrap
        time.sleep(_BETWEEN_CALLS_S)
    finally:
        lib.rd_kafka_mock_cluster_destroy(handle)
        lib.rd_kafka_destroy(client)


def _librdkafka() -> ctypes.CDLL:
    """The library inside the confluent-kafka wheel, loaded through the extension module that is linked with it."""
    from confluent_kafka import cimpl

    lib = ctypes.CDLL(cimpl.__file__)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (ctypes.c_int, [pointer, text, text, pointer, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [ctypes.c_int, pointer, pointer, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, ctypes.c_int]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_broker_set_host_port": (None, [pointer, ctypes.c_int32, text, ctypes.c_int]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_topic_create": (ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _move(lib: ctypes.CDLL, handle: int, bootstrap: str, port: int) -> str:
    """Move the brokers to chosen ports, for which librdkafka has no call; returns the new bootstrap servers.

    A listening socket of ours replaces the descriptor of the broker's own; the cluster then advertises our port.
    """
    listeners = _listeners()
    for number, address in enumerate(bootstrap.split(",")):
        with socket.create_server((_LOOPBACK, port + number)) as ours:
            os.dup2(ours.fileno(), listeners[int(address.rpartition(":")[2])])
        lib.rd_kafka_mock_broker_set_host_port(handle, number + 1, _LOOPBACK.encode(), port + number)
    return ",".join(f"{_LOOPBACK}:{port + number}" for number in range(len(listeners)))


def _listeners() -> dict[int, int]:
    """The descriptors of all listening TCP sockets in this process, by port."""
    found: dict[int, int] = {}
    for fd in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as one:
                if one.family == socket.AF_INET and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found[one.getsockname()[1]] = fd
        except OSError:
            continue
    return found


def main() -> None:
    """Run the cluster until it is stopped; prints one JSON line with its address first."""
    parser = argparse.ArgumentParser(prog="python -m segue_cli.local.kafka", description=__doc__)
    parser.add_argument("--topics", default="", metavar="NAME:PARTITIONS,…", help="topics to make")
    parser.add_argument("--brokers", type=int, default=1, help="how many brokers (1)")
    parser.add_argument("--port", type=int, default=0, help="the first broker's port (any free one)")
    options = parser.parse_args()
    pairs = (pair.rpartition(":") for pair in options.topics.split(",") if pair)
    topics = {name: int(partitions) for name, _, partitions in pairs}
    if any(partitions < 1 for partitions in topics.values()):  # librdkafka would accept it, and serve nothing
        parser.error("a topic needs at least one partition")
    with cluster(topics, brokers=options.brokers, port=options.port) as bootstrap:
        print(json.dumps({"bootstrap_servers": bootstrap}), flush=True)
        asyncio.run(until_told())


if __name__ == "__main__":
    main()
