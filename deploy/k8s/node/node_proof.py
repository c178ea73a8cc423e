"""`make k8s-node`: the demo on a real node with the real image, in parts, with its times.

The parts are an upgrade, a restart, and scaling by KEDA; each can run alone. It needs what `node.py` needs, and
in the local storage of buildah the images that the demo names: `segue:dev`, Kafka and PostgreSQL, and for the upgrade
one of an earlier release (BEFORE, `segue:before`). It ends what it starts, and its exit code is 1 if a promise did not
hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

import node_images
import node_keda
import programs
import validate
from segue_cli.local.process import ChildFailed, child, ready_with

HERE: Final = Path(__file__).resolve().parent
Manifest = dict[str, Any]
ROLLED: Final = ("gateway", "orchestrator", "fal-adapter", "replicate-adapter", "log-sink")
VOLUMES: Final = ("artifacts", "data-kafka-0", "data-postgres-0")
RELEASE: Final = "segue:dev"
UPGRADE: Final = "upgrade"
RESTART: Final = "restart"
KEDA: Final = "keda"
PARTS: Final = (UPGRADE, RESTART, KEDA)
MOST_SAID: Final = 20
STOP_WITHIN_S: Final = 600.0
"""Gigabytes of images are deleted at the end, on a disk that may be busy."""
WITHIN: Final = "--timeout=420s"


@dataclass(slots=True)
class Proof:
    """One run: the cluster, and what was seen."""

    kubeconfig: str
    folder: Path
    ctr: Sequence[str]
    began: float = field(default_factory=time.monotonic)
    broken: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print a line with the seconds since the beginning."""
        print(f"{time.monotonic() - self.began:7.1f} s  {line}", flush=True)

    async def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What kubectl printed. Raises CalledProcessError."""
        argv = [str(programs.KUBECTL), f"--kubeconfig={self.kubeconfig}", *arguments]
        run = subprocess.run
        done = await asyncio.to_thread(run, argv, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stderr)
            done.check_returncode()
        return str(done.stdout)

    async def apply(self, manifests: Sequence[Manifest]) -> None:
        """Apply objects."""
        await self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(manifests))

    @contextlib.asynccontextmanager
    async def timed(self, what: str) -> AsyncIterator[None]:
        """Say how long the block took."""
        began = time.monotonic()
        yield
        self.say(f"{what}: {time.monotonic() - began:.1f} s")

    async def rolled_out(self) -> None:
        """Wait until every Deployment and StatefulSet runs as it was applied last."""
        for kind in ("statefulset", "deployment"):
            await self.kubectl("rollout", "status", kind, "--namespace=segue", WITHIN)

    async def completed(self, job: str) -> None:
        """Wait until a Job has succeeded."""
        await self.kubectl("wait", "--for=condition=Complete", f"job/{job}", "--namespace=segue", WITHIN)

    async def restarts(self) -> None:
        """Every container that was restarted is a broken promise."""
        for pod in json.loads(await self.kubectl("get", "pod", "--namespace=segue", "-o", "json"))["items"]:
            for one in pod["status"].get("containerStatuses", []):
                if one["restartCount"]:
                    self.broken.append(f"{pod['metadata']['name']}/{one['name']} was restarted: {one['lastState']}")

    @contextlib.asynccontextmanager
    async def under_load(self, name: str, rate: float, least: int) -> AsyncIterator[None]:
        """Send requests for the length of the block; then wait for the jobs, and check them."""
        lines: list[str] = []
        here = self.folder / "resolv.conf"
        bills = self.folder / "volumes" / "artifacts" / "sandbox" / "bills.jsonl"
        load = [
            sys.executable, str(HERE / "node_load.py"), f"--name={name}", f"--folder={self.folder / name}",
            f"--bills={bills}", f"--rate={rate}", f"--least={least}",
        ]  # fmt: skip
        resolved = f"mount --bind {here} /etc/resolv.conf && exec " + " ".join(load)
        argv = ["unshare", "--mount", "sh", "-c", resolved]
        async with child(argv, name="load", on_line=lines.append, ready=ready_with("sending")) as running:
            yield
            self.say(f"{name}: done under load; its jobs are waited for")
            # The load stops asking upon SIGTERM, and ends by itself.
            os.kill(running.pid, signal.SIGTERM)
            await running.wait()
        self._counted(name, lines)

    def _counted(self, name: str, lines: Sequence[str]) -> None:
        found: dict[str, Any] = next((json.loads(line) for line in reversed(lines) if line.startswith("{")), {})
        if "violations" not in found:
            raise ChildFailed("\n  ".join(["the load ended without a result", *lines[-20:]]))
        counts = [f"{key} {len(value) if isinstance(value, list) else value}" for key, value in found.items()]
        self.say(f"{name}: {', '.join(counts)}")
        self.broken += [f"{name}: {one}" for one in [*found["violations"], *found["unfinished"]]]
        if found["succeeded"] != found["jobs"]:
            self.broken.append(f"{name}: {found['jobs'] - found['succeeded']} jobs did not succeed")


def volume(claim: str, folder: Path) -> Manifest:
    """A volume for a claim: a folder of the node that every user may write to, as of kind and minikube."""
    path = folder / claim
    path.mkdir(parents=True)
    path.chmod(0o777)
    spec = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(path)},
        "claimRef": {"namespace": "segue", "name": claim},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim}, "spec": spec}


def before(manifests: Sequence[Manifest], image: str) -> list[Manifest]:
    """The demo with services of an earlier release, and without the Job that asks for a track."""
    earlier = []
    for each in copy.deepcopy(list(manifests)):
        name = each["metadata"]["name"]
        if each["kind"] in ("Deployment", "Job") and name in (*ROLLED, "setup"):
            pod = each["spec"]["template"]["spec"]
            for one in [*pod.get("initContainers", []), *pod["containers"]]:
                one["image"] = image
        if (each["kind"], name) != ("Job", "demo"):
            earlier.append(each)
    return earlier


async def prove(proof: Proof, options: argparse.Namespace) -> None:
    """The demo, and the parts that are asked for, in the order of PARTS."""
    demo = validate.rendered(HERE.parent / "overlays" / "demo")
    images = {name: node_images.full_name(name) for name in node_images.images_of(demo)} | {RELEASE: options.image}
    first = RELEASE
    if UPGRADE in options.parts:
        first = options.before
        images[first] = first
    async with proof.timed(f"{len(images)} images imported"):
        await asyncio.to_thread(node_images.imported, images, proof.ctr)
    await proof.apply([volume(claim, proof.folder / "volumes") for claim in VOLUMES])
    async with proof.timed(f"the demo with {images[first]} runs"):
        await proof.apply(before(demo, first))
        await proof.completed("setup")
        await proof.rolled_out()
    if UPGRADE in options.parts:
        await upgrade(proof, options, demo)
    async with proof.timed("the demo's job, through the Service"):
        await proof.apply(demo)
        await proof.completed("demo")
    print(await proof.kubectl("logs", "job/demo", "--namespace=segue"), flush=True)
    if RESTART in options.parts:
        await restart(proof, options)
    if KEDA in options.parts:
        await node_keda.prove(proof)
    print(await proof.kubectl("get", "pod,service,endpointslice", "--namespace=segue", "-o", "wide"), flush=True)


async def upgrade(proof: Proof, options: argparse.Namespace, demo: Sequence[Manifest]) -> None:
    """From the earlier release to this one under load."""
    async with proof.under_load("upgrade", options.rate, options.jobs), proof.timed(f"upgrade to {options.image}"):
        await proof.kubectl("delete", "job", "setup", "--namespace=segue")
        await proof.apply([each for each in demo if each["metadata"]["name"] != "demo" or each["kind"] != "Job"])
        await proof.completed("setup")
        await proof.rolled_out()
    await proof.restarts()


async def restart(proof: Proof, options: argparse.Namespace) -> None:
    """All services anew under load."""
    async with proof.under_load("restart", options.rate, options.jobs), proof.timed("restart of all services"):
        await proof.kubectl("rollout", "restart", "deployment", *ROLLED, "--namespace=segue")
        await proof.rolled_out()
    await proof.restarts()


def _pass_on(line: str) -> None:
    if not line.startswith("{"):
        print(line, file=sys.stderr, flush=True)


async def run(options: argparse.Namespace) -> int:
    """Start the node, and prove it all; returns the exit code."""
    began = time.monotonic()
    argv = [sys.executable, str(HERE / "node.py")]
    async with child(
        argv, name="node", ready=ready_with("kubeconfig"), on_line=_pass_on, grace_s=STOP_WITHIN_S
    ) as node:
        ready = node.ready
        proof = Proof(str(ready["kubeconfig"]), Path(ready["folder"]), list(ready["ctr"]), began)
        proof.say("the node is ready")
        try:
            await prove(proof, options)
        except (subprocess.CalledProcessError, ChildFailed, AssertionError) as error:
            proof.broken.append(str(error))
            if options.hold:
                proof.say(f"held: {error}; kubectl --kubeconfig={proof.kubeconfig}")
                await asyncio.Event().wait()
        for line in proof.broken[:MOST_SAID]:
            proof.say(f"BROKEN: {line}")
        if len(proof.broken) > MOST_SAID:
            proof.say(f"BROKEN: and {len(proof.broken) - MOST_SAID} more")
        proof.say("ended; every promise held" if not proof.broken else "ended")
    return 1 if proof.broken else 0


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", default="localhost/segue:dev", help="of this release (localhost/segue:dev)")
    parser.add_argument("--before", default="localhost/segue:before", help="of an earlier one (localhost/segue:before)")
    parser.add_argument("--jobs", type=int, default=200, help="at least as many jobs in each part (200)")
    parser.add_argument("--rate", type=float, default=2.0, help="jobs a second (2)")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=[UPGRADE, RESTART], help="what to prove (upgrade restart)"
    )
    parser.add_argument("--keda", action="store_true", help="and then the part keda: the adapters scaled with KEDA")
    parser.add_argument("--hold", action="store_true", help="keep the node after a failure, until Ctrl-C")
    options = parser.parse_args()
    if options.keda:
        options.parts = [*options.parts, KEDA]
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(run(options))
    return 130


if __name__ == "__main__":
    sys.exit(main())
