"""Starts Kubernetes on one real node: control plane, kubelet, containerd and kube-proxy, in namespaces of their own.

It needs root, Linux, and Debian's runc, containernetworking-plugins, iptables, dnsmasq-base, buildah and skopeo. Prints
one JSON line when the node is ready, and stops on SIGTERM, on SIGINT, or when stdin is a pipe and closes; then nothing
of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import psutil

import control_plane
import node_certificates
import node_images
import node_settings
import programs
from go_programs import CannotBuild
from node_network import ENTER, MACHINE, NODE, network
from node_programs import NODE as NODE_PROGRAMS
from node_programs import say
from segue_cli.local.process import Child, child, ready_with, until_told
from segue_cli.stack.components import log_to

HERE: Final = Path(__file__).resolve().parent
TOOLS: Final = ("ip", "nsenter", "unshare", "iptables", "dnsmasq", "runc", "buildah", "skopeo")
READY_WITHIN_S: Final = 120
SERVICES_EVERY_S: Final = 0.5
CGROUPS: Final = Path("/sys/fs/cgroup")
SHARES: Final = 4096
"""Four times the share of one process."""


def missing() -> str | None:
    """What this machine lacks, as one line; None if nothing."""
    if os.geteuid() != 0:
        return "a node needs root: it makes namespaces, mounts and interfaces"
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if not Path(node_settings.CNI_PLUGINS, "ptp").exists():
        absent.append(f"{node_settings.CNI_PLUGINS}/ptp")
    return f"a node needs {', '.join(absent)}" if absent else None


def written(folder: Path, kubeconfig: Path) -> None:
    """Write the configuration files."""
    for name in ("cni", "hosts", "logs"):
        (folder / name).mkdir()
    (folder / "kubelet.yaml").write_text(node_settings.kubelet(folder))
    (folder / "kube-proxy.yaml").write_text(node_settings.proxy(kubeconfig))
    (folder / "containerd.toml").write_text(node_settings.containerd(folder))
    (folder / "cni" / "pods.conflist").write_text(node_settings.pod_network(folder))
    (folder / "resolv.conf").write_text(node_settings.resolver("segue"))


@contextlib.asynccontextmanager
async def namespaces(folder: Path) -> AsyncIterator[int]:
    """The node's own namespaces for the length of the block; yields the process id of the first process in them.

    When that one ends, so does every other.
    """
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv = [*ENTER, *own, sys.executable, str(HERE / "node_init.py"), str(folder)]
    async with child(argv, name="node", ready=ready_with("mounted")) as outer:
        [init] = psutil.Process(outer.pid).children()
        try:
            yield int(init.pid)
        finally:
            _end(init.pid)


def _end(init: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, signal.SIGTERM)


def with_processors() -> None:
    """Give the containers together a share of the processors as of so many processes; the kubelet would, with QoS."""
    group = CGROUPS / "cpu" / "k8s.io"
    with contextlib.suppress(OSError):
        group.mkdir(exist_ok=True)
        (group / "cpu.shares").write_text(str(SHARES))


def without_groups() -> None:
    """Remove the empty control groups that containers leave."""
    for left in sorted(CGROUPS.glob("*/k8s.io/**/"), key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            left.rmdir()


@contextlib.asynccontextmanager
async def node_on(folder: Path, plan: control_plane.Plan) -> AsyncIterator[list[str]]:
    """The node for the length of the block, which begins when it is ready; yields the beginning of a `ctr` command."""
    written(folder, plan.kubeconfig)
    with_processors()
    ours = NODE_PROGRAMS.folder()
    path = f"{ours}:{os.environ['PATH']}"
    async with contextlib.AsyncExitStack() as logs, namespaces(folder) as init, contextlib.AsyncExitStack() as stack:
        enter = ["nsenter", f"--target={init}", "--mount", "--net", "--pid", "--"]

        async def start(name: str, *argv: str) -> Child:
            take, close = log_to(folder / f"{name}.log")
            logs.callback(close)
            env = {**os.environ, "PATH": path}
            return await stack.enter_async_context(child([*enter, *argv], name=name, env=env, on_line=take))

        await start("dnsmasq", *node_settings.dnsmasq(folder))
        await start("containerd", f"{ours}/containerd", "--config", f"{folder}/containerd.toml")
        ctr = [*enter, f"{ours}/ctr", "--address", f"{folder}/containerd.sock"]
        await _until((folder / "containerd.sock").exists, "containerd")
        await asyncio.to_thread(node_images.pause_built, ours / "pause")
        await asyncio.to_thread(node_images.imported, {node_settings.PAUSE: node_settings.PAUSE}, ctr)
        await start(
            "kubelet", f"{ours}/kubelet", f"--config={folder}/kubelet.yaml", f"--kubeconfig={plan.kubeconfig}",
            f"--root-dir={folder}/kubelet", f"--hostname-override={node_settings.NAME}", f"--node-ip={NODE}",
        )  # fmt: skip
        await _until(lambda: _kubectl(plan, "get", "node", node_settings.NAME).returncode == 0, "kubelet")
        await start("kube-proxy", f"{ours}/kube-proxy", f"--config={folder}/kube-proxy.yaml")
        waited = f"--timeout={READY_WITHIN_S}s"
        await control_plane.kubectl(plan, "wait", "--for=condition=Ready", f"node/{node_settings.NAME}", waited)
        # Containers hold the pipes of these programs, so all of it ends before they are read to their end.
        stack.callback(_end, init)
        yield ctr


async def names_written(folder: Path, plan: control_plane.Plan) -> None:
    """Keep the name server's file as the Services are, until cancelled."""
    known = ""
    while True:
        told = await asyncio.to_thread(_kubectl, plan, "get", "service", "--all-namespaces", "-o", "json")
        text = node_settings.hosts(json.loads(told.stdout)["items"]) if told.returncode == 0 else known
        if text != known:
            known = text
            (folder / "services.new").write_text(text)
            (folder / "services.new").rename(folder / "hosts" / "services")
        await asyncio.sleep(SERVICES_EVERY_S)


def _kubectl(plan: control_plane.Plan, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(programs.KUBECTL), f"--kubeconfig={plan.kubeconfig}", *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


async def _until(is_there: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while not await asyncio.to_thread(is_there):
        if asyncio.get_running_loop().time() > deadline:
            raise control_plane.CannotRun(f"{what} did not start")
        await asyncio.sleep(0.1)


def aggregation(certificates: Path) -> tuple[str, ...]:
    """The flags by which the API server passes calls on to extensions, such as KEDA's metrics."""
    return (
        f"--requestheader-client-ca-file={certificates}/ca.crt", "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User", f"--proxy-client-cert-file={certificates}/tls.crt",
        f"--proxy-client-key-file={certificates}/tls.key", "--enable-aggregator-routing=true",
    )  # fmt: skip


async def serve(folder: Path, built: Path) -> None:
    """Run it in `folder` until cancelled."""
    plane = folder / "control-plane"
    plane.mkdir()
    plan = control_plane.planned(plane, built, MACHINE)
    aggregator = plane / "aggregator"
    node_certificates.written(aggregator, "front-proxy")
    async with (
        control_plane.running(plan, control_plane.managers(plan), aggregation(aggregator)),
        node_on(folder, plan) as ctr,
    ):
        names = asyncio.create_task(names_written(folder, plan))
        try:
            ready = {"kubeconfig": str(plan.kubeconfig), "folder": str(folder), "ctr": ctr}
            print(json.dumps(ready), flush=True)
            await asyncio.Event().wait()
        finally:
            names.cancel()


async def serve_until_told(built: Path) -> None:
    """Run it in a temporary folder, until it is stopped."""
    with tempfile.TemporaryDirectory(prefix="segue-node-", ignore_cleanup_errors=True) as folder, network():
        work = asyncio.create_task(serve(Path(folder), built))
        told = asyncio.create_task(until_told())
        await asyncio.wait({told, work}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        without_groups()


def main() -> int:
    """Build what is not there, and run; returns 2 if this machine lacks a requirement."""
    if (why := missing()) is not None:
        say(why)
        return 2
    try:
        NODE_PROGRAMS.built(say)
        asyncio.run(serve_until_told(programs.built(say)))
    except (CannotBuild, control_plane.CannotRun) as error:
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
