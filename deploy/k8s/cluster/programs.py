"""Builds the programs of a control plane of Kubernetes from their Go modules, once, into the user's cache."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from go_programs import CannotBuild, build, cache_folder, locked, missing_go, run

HERE: Final = Path(__file__).resolve().parent
PACKAGES: Final = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
}
"""Each program, with the folder of its `go.mod` here, and its package."""
STAGES: Final = "stages.yaml"
"""What kwok simulates: nodes that are ready, and pods that run, complete and go at once."""
KUBECTL: Final = Path(sys.executable).with_name("kubectl")
LEAST_GO: Final = (1, 26)

Tell = Callable[[str], None]


def missing() -> str | None:
    """Why the programs cannot be built here, as one line; None if they can or are there. Raises CannotBuild."""
    if all((folder() / name).exists() for name in (*PACKAGES, STAGES)):
        return None
    return missing_go(LEAST_GO, "the control plane")


def folder() -> Path:
    """Where the programs of these versions are kept."""
    return cache_folder("kubernetes", HERE.glob("*/go.*"))


def built(tell: Tell) -> Path:
    """The folder with every program; `tell` hears of each that is built. Raises CannotBuild."""
    if (why := missing()) is not None:
        raise CannotBuild(why)
    into = folder()
    with locked(into):
        left = [name for name in PACKAGES if not (into / name).exists()]
        for number, name in enumerate(left, 1):
            tell(f"building {name}, {number} of {len(left)}; all of them take about eight minutes")
            _build(name, into)
        if not (into / STAGES).exists():
            _write_whole(into / STAGES, _stages())
    return into


def version() -> str:
    """The version of Kubernetes, as in v1.36.3."""
    text = (HERE / "kubernetes" / "go.mod").read_text()
    [found] = re.findall(r"^(?:require|\t) ?k8s.io/kubernetes (v\S+)", text, re.MULTILINE)
    return str(found)


def _build(name: str, into: Path) -> None:
    module, package = PACKAGES[name]
    _, major, minor, _ = re.split(r"[v.]", version())
    base = "-X k8s.io/component-base/version.git"
    flags = f"-s -w {base}Version={version()} {base}Major={major} {base}Minor={minor}"
    build(package, HERE / module, into / name, flags)


def _stages() -> str:
    module = json.loads(run(["go", "list", "-m", "-json", "sigs.k8s.io/kwok"], HERE / "kwok"))
    return run([str(KUBECTL), "kustomize", f"{module['Dir']}/kustomize/stage/fast"], HERE)


def _write_whole(path: Path, text: str) -> None:
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
