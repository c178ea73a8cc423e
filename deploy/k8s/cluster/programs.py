"""Builds the programs of a control plane of Kubernetes from their Go modules, once, into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

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


class CannotBuild(Exception):
    """One line that says what is missing or failed."""


def missing() -> str | None:
    """Why the programs cannot be built here, as one line; None if they can, or if they are there."""
    if all((folder() / name).exists() for name in (*PACKAGES, STAGES)):
        return None
    if shutil.which("go") is None:
        return "there is no go on the PATH, and the control plane is not built yet"
    found = re.match(r"go(\d+)\.(\d+)", _run(["go", "env", "GOVERSION"], HERE))
    if found is None or (int(found[1]), int(found[2])) < LEAST_GO:
        return f"go on the PATH is older than {LEAST_GO[0]}.{LEAST_GO[1]}, which Kubernetes needs"
    return None


def folder() -> Path:
    """Where the programs of these versions are kept."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(HERE.glob("*/go.*"))))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "segue" / f"kubernetes-{digest.hexdigest()[:12]}"


def built(tell: Tell) -> Path:
    """The folder with every program; `tell` hears of each that is built. Raises CannotBuild."""
    if (why := missing()) is not None:
        raise CannotBuild(why)
    into = folder()
    into.mkdir(parents=True, exist_ok=True)
    with (into / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
    unfinished = into / f"{name}.new"
    _run(["go", "build", "-trimpath", "-ldflags", flags, "-o", str(unfinished), package], HERE / module)
    unfinished.rename(into / name)


def _stages() -> str:
    module = json.loads(_run(["go", "list", "-m", "-json", "sigs.k8s.io/kwok"], HERE / "kwok"))
    return _run([str(KUBECTL), "kustomize", f"{module['Dir']}/kustomize/stage/fast"], HERE)


def _write_whole(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text, "utf-8")
    path.with_suffix(".new").rename(path)


def _run(argv: list[str], where: Path) -> str:
    # The versions and their hashes are those of go.mod and go.sum.
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    done = subprocess.run(argv, cwd=where, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-3:]
        raise CannotBuild(f"{' '.join(argv[:2])} in {where} ended with {done.returncode}: {' | '.join(last)}")
    return done.stdout


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
