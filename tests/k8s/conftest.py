"""A control plane of Kubernetes for the whole run: real API server, controllers and scheduler, and simulated nodes."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from tests.deploy.manifests import K8S
from tests.k8s.applied import Cluster
from tests.patience import patient

import programs
from segue_cli.local.process import child, ready_with

LAUNCHER = K8S / "cluster" / "control_plane.py"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """Three ready nodes, and the definitions of the custom resources that the overlays use."""
    if (why := programs.missing()) is not None:
        pytest.skip(f"{why}; `make test-k8s` builds it")
    async with child(
        [sys.executable, str(LAUNCHER)],
        name="kubernetes",
        ready=ready_with("kubeconfig"),
        ready_within_s=patient(120),
        death_signal=signal.SIGTERM,
    ) as launcher:
        found = Cluster(Path(launcher.ready["kubeconfig"]))
        definitions = [yaml.safe_load(path.read_text("utf-8")) for path in sorted((K8S / "crds").glob("*.json"))]
        found.do("create", "-f", "-", given=yaml.safe_dump_all(definitions))
        found.do("wait", "--for=condition=Established", "crd", "--all", f"--timeout={patient(60):.0f}s")
        yield found
