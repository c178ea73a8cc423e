"""Starts a control plane of Kubernetes without containers: real API server, controllers and scheduler, simulated nodes.

Prints one JSON line when three nodes are ready, and stops on SIGTERM, on SIGINT, or when stdin is a pipe and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from go_programs import CannotBuild
from programs import KUBECTL, STAGES, built
from segue_cli.local.process import Child, child, until_told
from segue_cli.stack.components import log_to

LOOPBACK: Final = "127.0.0.1"
NODES: Final = 3
READY_WITHIN_S: Final = 120.0
STOP_WITHIN_S: Final = 10.0
PAUSE_S: Final = 0.1


class CannotRun(Exception):
    """One line that says which program did not start, and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a control plane runs: its folder, its programs and its ports."""

    folder: Path
    programs: Path
    etcd: int
    peer: int
    api: int
    token: str

    @property
    def kubeconfig(self) -> Path:
        """How kubectl reaches it, as its administrator."""
        return self.folder / "kubeconfig"

    @property
    def certificate(self) -> Path:
        """The certificate that the API server makes for itself."""
        return self.folder / "certificates" / "apiserver.crt"


def planned(folder: Path, programs: Path) -> Plan:
    """Free ports, and the files that the programs are started with."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(3)]
        etcd, peer, api = (int(sock.getsockname()[1]) for sock in socks)
    plan = Plan(folder, programs, etcd, peer, api, secrets.token_hex(16))
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "accounts.key").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.pub").write_bytes(public)
    (folder / "tokens.csv").write_text(f"{plan.token},admin,admin,system:masters\n")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "segue",
                "cluster": {"server": f"https://{LOOPBACK}:{api}", "certificate-authority": str(plan.certificate)},
            }
        ],
        "users": [{"name": "admin", "user": {"token": plan.token}}],
        "contexts": [{"name": "segue", "context": {"cluster": "segue", "user": "admin"}}],
        "current-context": "segue",
    }
    plan.kubeconfig.write_text(yaml.safe_dump(config))
    return plan


def etcd_flags(plan: Plan) -> list[str]:
    """The database of the API server."""
    url, peer = f"http://{LOOPBACK}:{plan.etcd}", f"http://{LOOPBACK}:{plan.peer}"
    return [
        f"--data-dir={plan.folder / 'etcd'}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]  # fmt: skip


def api_flags(plan: Plan) -> list[str]:
    """The API server: with the admission of pods by their namespace's level, as in any cluster."""
    return [
        f"--etcd-servers=http://{LOOPBACK}:{plan.etcd}", f"--bind-address={LOOPBACK}", f"--secure-port={plan.api}",
        f"--cert-dir={plan.certificate.parent}", f"--token-auth-file={plan.folder / 'tokens.csv'}",
        f"--service-account-key-file={plan.folder / 'accounts.pub'}",
        f"--service-account-signing-key-file={plan.folder / 'accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC", "--endpoint-reconciler-type=none",
    ]  # fmt: skip


def others(plan: Plan) -> dict[str, list[str]]:
    """The programs that work through the API server, with their flags."""
    as_admin = f"--kubeconfig={plan.kubeconfig}"
    alone = ["--leader-elect=false", "--secure-port=0"]
    keys = [f"--service-account-private-key-file={plan.folder / 'accounts.key'}", f"--root-ca-file={plan.certificate}"]
    return {
        "kube-controller-manager": [as_admin, *alone, *keys],
        "kube-scheduler": [as_admin, *alone],
        "kwok": [
            as_admin, "--manage-all-nodes", f"--config={plan.programs / STAGES}", "--node-lease-duration-seconds=40",
        ],
    }  # fmt: skip


async def until_api(plan: Plan, process: Child) -> None:
    """Wait until the API server says that it is ready. Raises CannotRun."""
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while not await asyncio.to_thread(_api_ready, plan):
        if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
            last = (plan.folder / "kube-apiserver.log").read_text(errors="replace").strip().splitlines()[-3:]
            raise CannotRun(f"kube-apiserver did not start: {' | '.join(last)}")
        await asyncio.sleep(PAUSE_S)


def _api_ready(plan: Plan) -> bool:
    try:
        trust = ssl.create_default_context(cafile=plan.certificate)
        request = urllib.request.Request(
            f"https://{LOOPBACK}:{plan.api}/readyz", headers={"Authorization": f"Bearer {plan.token}"}
        )
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with direct.open(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, ssl.SSLError, urllib.error.URLError):
        return False


async def make_nodes(plan: Plan) -> None:
    """Three nodes, each in a zone of its own, and the wait until they are ready. Raises CannotRun."""
    room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"node-{n}",
                "labels": {"kubernetes.io/hostname": f"node-{n}", "topology.kubernetes.io/zone": f"zone-{n}"},
            },
            "status": {"allocatable": room, "capacity": room},
        }
        for n in range(1, NODES + 1)
    ]
    await kubectl(plan, "create", "-f", "-", given=yaml.safe_dump_all(nodes))
    await kubectl(plan, "wait", "--for=condition=Ready", "node", "--all", f"--timeout={READY_WITHIN_S:.0f}s")


async def kubectl(plan: Plan, *arguments: str, given: str = "") -> None:
    """Run kubectl as the administrator. Raises CannotRun with its last line."""
    process = await asyncio.create_subprocess_exec(
        KUBECTL, f"--kubeconfig={plan.kubeconfig}", *arguments, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate(given.encode())
    if process.returncode:
        raise CannotRun(f"kubectl {arguments[0]}: {said.decode(errors='replace').strip().splitlines()[-1]}")


async def serve(folder: Path, programs: Path) -> None:
    """Run the control plane in `folder` until cancelled; the output of each program is in a file of its name."""
    plan = planned(folder, programs)
    async with contextlib.AsyncExitStack() as running:

        async def start(name: str, flags: list[str]) -> Child:
            take, close = log_to(folder / f"{name}.log")
            running.callback(close)
            started = child([str(programs / name), *flags], name=name, on_line=take, grace_s=STOP_WITHIN_S)
            return await running.enter_async_context(started)

        await start("etcd", etcd_flags(plan))
        await until_api(plan, await start("kube-apiserver", api_flags(plan)))
        for name, flags in others(plan).items():
            await start(name, flags)
        await make_nodes(plan)
        print(json.dumps({"kubeconfig": str(plan.kubeconfig), "logs": str(folder)}), flush=True)
        await asyncio.Event().wait()


async def serve_until_told(programs: Path) -> None:
    """Run it in a temporary folder, until it is stopped."""
    with tempfile.TemporaryDirectory(prefix="segue-kubernetes-") as folder:
        work = asyncio.create_task(serve(Path(folder), programs))
        told = asyncio.create_task(until_told())
        await asyncio.wait({told, work}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def main() -> int:
    """Build what is not there, and run; returns 2 if this machine lacks a requirement."""
    try:
        programs = built(lambda line: print(f"kubernetes: {line}", file=sys.stderr, flush=True))
        asyncio.run(serve_until_told(programs))
    except (CannotBuild, CannotRun) as error:
        print(f"kubernetes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
