"""Starts a real Apache Kafka, one broker or three, from Maven's jars, for tests and benchmarks without containers.

Prints one JSON line when every broker answers, and stops on SIGTERM, on SIGINT, or when stdin is a pipe and closes.
"""

import argparse
import asyncio
import base64
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import struct
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodes import HERE, LOOPBACK, QUICK, TARGET, Broker, CannotRun, java, plan, properties, tool

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """What to start."""

    brokers: int
    listeners: tuple[str, ...] = ()
    """The security protocols of more listeners of each broker; a client in plain text is served in any case."""
    behind: tuple[int, ...] = ()
    """The ports of loopback to which one more listener of each broker sends its clients."""
    properties: Path | None = None
    """Settings that every broker has beside its own."""


async def run(argv: list[str]) -> None:
    """Run a command to its end; raises `CannotRun` with its last lines if it fails."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        preexec_fn=dies_with_us(),
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode:
        last = output.decode(errors="replace").strip().splitlines()[-3:]
        raise CannotRun(f"{Path(argv[0]).name} ended with {process.returncode}: {' | '.join(last)}")


async def fetch_jars() -> None:
    """Copy the jars named in the pom into `target/libs`, from Maven's local repository if they are there."""
    done = TARGET / "libs.sha256"
    wanted = hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()
    TARGET.mkdir(exist_ok=True)
    with (TARGET / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == wanted:
            return
        shutil.rmtree(TARGET / "libs", ignore_errors=True)
        copy = [tool("mvn"), "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        try:
            await run([*copy, "-o"])
        except CannotRun:
            await run(copy)
        done.write_text(wanted)


async def format_storage(brokers: list[Broker], more: str) -> None:
    """Write each broker's configuration, with `more` at its end, and format its storage if it is new."""
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    new = [one for one in brokers if not (one.dir / "data" / "meta.properties").exists()]
    for one in brokers:
        one.dir.mkdir(parents=True, exist_ok=True)
        one.config.write_text(properties(one, brokers, more))
    if new and len(new) < len(brokers):
        raise CannotRun(f"{brokers[0].dir.parent} holds a cluster with another number of brokers")
    quick = java(*QUICK, "-Xmx128m")
    await asyncio.gather(
        *(
            run([*quick, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(one.config)])
            for one in new
        )
    )


async def launch(broker: Broker) -> asyncio.subprocess.Process:
    """Start one broker; its output goes to `broker.log` in its folder."""
    with (broker.dir / "broker.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *broker.start, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            preexec_fn=dies_with_us(),
        )  # fmt: skip


async def until_ready(broker: Broker, count: int, process: asyncio.subprocess.Process) -> None:
    """Wait until this broker's own metadata lists `count` brokers."""
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while await brokers_known_to(broker.port) < count:
        if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
            last = (broker.dir / "broker.log").read_text(errors="replace").strip().splitlines()[-3:]
            raise CannotRun(f"broker {broker.id} did not start: {' | '.join(last)}")
        await asyncio.sleep(0.1)


async def brokers_known_to(port: int) -> int:
    """Ask for metadata of no topic (request key 3, version 1) and count the brokers in the answer; 0 for no answer."""
    request = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            with contextlib.closing(writer):
                writer.write(struct.pack(">i", len(request)) + request)
                size, _correlation, brokers = struct.unpack(">iii", await reader.readexactly(12))
                return int(brokers) if size >= 8 else 0
    except (OSError, EOFError, TimeoutError):
        return 0


def dies_with_us() -> Callable[[], None] | None:
    """A `preexec_fn` with which Linux kills the child when this process ends in any way; None on other systems."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: None if prctl(1, int(signal.SIGKILL), 0, 0, 0) == 0 else os._exit(1)


async def until_told() -> None:
    """Return on SIGTERM, on SIGINT, or when stdin is a pipe and closes."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, told.set)
    kind = os.fstat(0).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        loop.add_reader(0, lambda: None if os.read(0, 4096) else told.set())
    await told.wait()


async def stop(process: asyncio.subprocess.Process, sig: signal.Signals) -> None:
    """Send `sig` to one broker, and kill it if it does not end."""
    if process.returncode is None:
        process.send_signal(sig)
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def serve(cluster: Cluster, folder: Path, last_signal: signal.Signals) -> None:
    """Run the cluster in `folder` until cancelled."""
    await fetch_jars()
    count, more = cluster.brokers, cluster.properties.read_text() if cluster.properties else ""
    brokers = plan(count, folder, cluster.listeners, cluster.behind)
    await format_storage(brokers, more)
    processes: list[asyncio.subprocess.Process] = []
    try:
        processes += [await launch(one) for one in brokers]
        pairs = list(zip(brokers, processes, strict=True))
        await asyncio.gather(*(until_ready(one, count, its) for one, its in pairs))
        rows = [
            {
                "id": one.id, "pid": its.pid, "port": one.port, "listeners": dict(one.listeners), "dir": str(one.dir),
                "start": one.start, "behind": one.behind and one.behind[0],
            }
            for one, its in pairs
        ]  # fmt: skip
        servers = ",".join(f"{LOOPBACK}:{one.port}" for one in brokers)
        print(json.dumps({"bootstrap_servers": servers, "brokers": rows}), flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(*(stop(its, last_signal) for its in processes))


async def serve_until_told(cluster: Cluster, kept: Path | None) -> None:
    """Run the cluster, in `kept` or in a temporary folder, until it is stopped."""
    with contextlib.ExitStack() as cleanup:
        if kept is None:
            # This data is not read again, so the brokers do not have to flush it.
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="segue-kafka-")))
            work = asyncio.create_task(serve(cluster, folder, signal.SIGKILL))
        else:
            work = asyncio.create_task(serve(cluster, kept, signal.SIGTERM))
        told = asyncio.create_task(until_told())
        await asyncio.wait({told, work}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def main() -> int:
    """Parse the command line and run; returns 2 if this machine lacks a requirement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="how many (1)")
    parser.add_argument("--dir", type=Path, help="keep the data here (or else in a temporary folder)")
    parser.add_argument(
        "--listener", action="append", default=[], choices=("SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        help="one more listener, of this security protocol; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--behind", type=int, action="append", default=[], metavar="PORT",
        help="one more listener, which sends its clients to this port of loopback; once for each broker",
    )  # fmt: skip
    parser.add_argument("--properties", type=Path, help="a file of settings that every broker has beside its own")
    options = parser.parse_args()
    if options.behind and len(options.behind) != options.brokers:
        parser.error("--behind has to be given once for each broker, or not at all")
    cluster = Cluster(options.brokers, tuple(options.listener), tuple(options.behind), options.properties)
    try:
        asyncio.run(serve_until_told(cluster, options.dir and options.dir.resolve()))
    except CannotRun as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
