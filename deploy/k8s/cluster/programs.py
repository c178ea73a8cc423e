"""Builds the programs of a control plane of Kubernetes from their Go modules, once, into the user's cache."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from go_programs import CannotBuild, GoPrograms, Tell, kubernetes_flags, run_go

HERE: Final = Path(__file__).resolve().parent
STAGES: Final = "stages.yaml"
"""What kwok simulates: nodes that are ready, and pods that run, complete and go at once."""
KUBECTL: Final = Path(sys.executable).with_name("kubectl")
PROGRAMS: Final = GoPrograms(
    "kubernetes",
    HERE,
    {
        "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
        "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
        "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
        "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    },
    duration="eight minutes",
    flags=kubernetes_flags(HERE / "kubernetes" / "go.mod"),
    written=(STAGES,),
)


def missing() -> str | None:
    """Why the programs cannot be built here, as one line; None if they can, or if they are there."""
    return PROGRAMS.missing()


def built(tell: Tell) -> Path:
    """The folder with every program; `tell` hears of each that is built. Raises CannotBuild."""
    return PROGRAMS.built(tell, _write_stages)


def _write_stages(into: Path) -> None:
    path = into / STAGES
    if path.exists():
        return
    module = json.loads(run_go(["go", "list", "-m", "-json", "sigs.k8s.io/kwok"], HERE / "kwok"))
    text = run_go([str(KUBECTL), "kustomize", f"{module['Dir']}/kustomize/stage/fast"], HERE)
    path.with_suffix(".new").write_text(text, "utf-8")
    path.with_suffix(".new").rename(path)


def main() -> int:
    """Build what is not there; returns 0 also where it cannot be built, with a line that says why."""
    if (why := missing()) is not None:
        print(f"kubernetes: {why}; the tests that need it are skipped")
        return 0
    try:
        built(lambda line: print(f"kubernetes: {line}", flush=True))
    except CannotBuild as error:
        print(f"kubernetes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
