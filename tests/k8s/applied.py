"""A cluster, through kubectl, and an overlay that is applied to it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.deploy.manifests import K8S, Manifest
from tests.patience import patient

import programs
import validate
from contracts.topics import SERVICES

NAMESPACES = ("segue", "kafka", "monitoring")
VOLUMES = 3
"""As many as the demo claims; there is nobody here who makes them."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster, through kubectl."""

    kubeconfig: Path

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; its exit code is the caller's to judge."""
        return subprocess.run(
            [programs.KUBECTL, f"--kubeconfig={self.kubeconfig}", *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(120),
            # Objects as they are, with no difference that a tool of the user's would show.
            env={**os.environ, "KUBECTL_EXTERNAL_DIFF": "diff -u"},
        )

    def do(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl, which has to succeed; returns what it printed."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def refused(self, *manifests: Manifest) -> str:
        """Apply what has to be refused; returns the reason."""
        done = self.run("apply", "-f", "-", given=yaml.safe_dump_all(manifests))
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, *arguments: str) -> list[Manifest]:
        """The objects that `kubectl get` finds."""
        found: Any = json.loads(self.do("get", *arguments, "-o", "json"))
        return list(found["items"])

    def apply(self, manifests: list[Manifest]) -> str:
        """Apply objects; returns a line for each."""
        return self.do("apply", "-f", "-", given=yaml.safe_dump_all(manifests))

    def wait(self, condition: str, *what: str, namespace: str = "segue") -> None:
        """Wait for a condition of every object that is named."""
        limit = f"--timeout={patient(60):.0f}s"
        self.do("wait", f"--for={condition}", f"--namespace={namespace}", limit, *what)

    def rolled_out(self, *kinds: str) -> None:
        """Wait until every Deployment and StatefulSet runs as it was applied last."""
        for each in self.get("--namespace=segue", ",".join(kinds or ("deployment", "statefulset"))):
            name = f"{each['kind']}/{each['metadata']['name']}"
            self.do("rollout", "status", name, "--namespace=segue", f"--timeout={patient(60):.0f}s")


@dataclass(frozen=True, slots=True)
class Applied:
    """An overlay that was applied to a cluster that had nothing of Segue, and runs."""

    name: str
    cluster: Cluster
    created: list[str]
    """What kubectl said of each object."""

    @property
    def folder(self) -> str:
        """The overlay's folder."""
        return str(K8S / "overlays" / self.name)

    def objects(self) -> list[Manifest]:
        """The overlay's objects."""
        return validate.rendered(K8S / "overlays" / self.name)


@contextmanager
def applied_to(cluster: Cluster, name: str) -> Iterator[Applied]:
    """Apply an overlay for the length of the block, which begins once all of it runs."""
    others = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each}} for each in ("kafka", "monitoring")]
    cluster.apply([*others, *map(_volume, range(VOLUMES))])
    applied = Applied(name, cluster, cluster.do("apply", "-k", str(K8S / "overlays" / name)).splitlines())
    cluster.rolled_out()
    cluster.wait("condition=Complete", "job", "--all")
    yield applied
    cluster.do("delete", "namespace", *NAMESPACES, "--ignore-not-found", f"--timeout={patient(60):.0f}s")
    cluster.do("delete", "persistentvolume", "--all", f"--timeout={patient(60):.0f}s")


def _volume(number: int) -> Manifest:
    spec = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": f"/var/lib/volume-{number}"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"volume-{number}"}, "spec": spec}


def runs_and_stays(applied: Applied) -> None:
    """All of it was created by one apply and runs, and a second apply changes nothing."""
    assert len(applied.created) == len(applied.objects())
    assert {line.rsplit(maxsplit=1)[1] for line in applied.created} == {"created"}
    before = pod_ids(applied.cluster)
    deployments = applied.cluster.get("deployment", "--namespace=segue")
    assert set(SERVICES) <= {each["metadata"]["name"] for each in deployments}
    difference = applied.cluster.run("diff", "-k", applied.folder)
    assert (difference.returncode, difference.stdout) == (0, ""), difference.stderr
    applied.cluster.do("apply", "-k", applied.folder)
    applied.cluster.rolled_out()
    assert pod_ids(applied.cluster) == before


def pod_ids(cluster: Cluster) -> set[str]:
    """The ids of all pods of Segue."""
    return {each["metadata"]["uid"] for each in cluster.get("pod", "--namespace=segue")}
