"""The nodes of a small Kafka cluster: their ports, folders, settings and commands."""

import random
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE / "target"
LOOPBACK = "127.0.0.1"
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""A cluster here runs for minutes: compiling it well costs more processor time than it saves."""


class CannotRun(RuntimeError):
    """A requirement that this machine lacks, in one line."""


@dataclass(frozen=True, slots=True)
class Broker:
    """One node, both broker and controller: its ports and folders."""

    id: int
    port: int
    controller_port: int
    dir: Path
    listeners: Mapping[str, int] = field(default_factory=dict)
    """The ports of more listeners, each by its name, which is its security protocol."""
    behind: tuple[int, int] | None = None
    """The port of a listener in plain text, and the port of loopback to which it sends its clients."""

    @property
    def config(self) -> Path:
        """The path of its properties file."""
        return self.dir / "server.properties"

    @property
    def start(self) -> list[str]:
        """The command that starts it, also again with the same port and data."""
        quiet = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return [*java("-Xmx512m", *QUICK, quiet), "kafka.Kafka", str(self.config)]


def java(*options: str) -> list[str]:
    """The beginning of a command that runs one of the broker's main classes."""
    return [tool("java"), *options, "-cp", str(TARGET / "libs" / "*")]


def tool(name: str) -> str:
    """The full path of a required program. Raises `CannotRun` if it is missing."""
    found = shutil.which(name)
    if found is None:
        raise CannotRun(f"{name} is not on the PATH: a real Kafka needs Java 17 and, for its jars, Maven")
    return found


def plan(count: int, folder: Path, listeners: Sequence[str] = (), behind: Sequence[int] = ()) -> list[Broker]:
    """Brokers on free ports, each with its own folder and with listeners of these security protocols beside its own.

    With `behind`, each has one more, which sends its clients to that port of loopback: whatever listens there is
    between them.
    """
    # Outside the range of outgoing connections: such a port could be taken while its broker is down.
    ports = [port for port in random.sample(range(10_240, 32_768), 200) if _is_free(port)]

    def broker(n: int) -> Broker:
        more = {name: ports.pop() for name in listeners}
        sent_to = (ports.pop(), behind[n]) if behind else None
        return Broker(n + 1, ports.pop(), ports.pop(), folder / f"broker-{n + 1}", more, sent_to)

    return [broker(n) for n in range(count)]


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((LOOPBACK, port)):
            return True
    except OSError:
        return False


def properties(broker: Broker, brokers: list[Broker], more: str = "") -> str:
    """The broker's configuration: fast failover, small sizes for tests, replicated on all brokers; then `more`."""
    replicas, in_sync = len(brokers), min(2, len(brokers))
    ports = {"PLAINTEXT": broker.port, **broker.listeners}
    clients = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())
    protocols = {"CONTROLLER": "PLAINTEXT", **{name: name for name in ports}}
    advertised = clients
    if broker.behind is not None:
        port, sent_to = broker.behind
        clients += f",BEHIND://{LOOPBACK}:{port}"
        advertised += f",BEHIND://{LOOPBACK}:{sent_to}"
        protocols["BEHIND"] = "PLAINTEXT"
    settings = {
        "process.roles": "broker,controller",
        "node.id": broker.id,
        "controller.quorum.voters": ",".join(f"{one.id}@{LOOPBACK}:{one.controller_port}" for one in brokers),
        "listeners": f"{clients},CONTROLLER://{LOOPBACK}:{broker.controller_port}",
        "advertised.listeners": advertised,
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "controller.listener.names": "CONTROLLER",
        "log.dirs": broker.dir / "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items()) + more
