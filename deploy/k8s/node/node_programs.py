"""What a node needs, and KEDA, built from Go modules into the user's cache: `python deploy/k8s/node/node_programs.py`.

`--keda` builds KEDA's operator and metrics adapter too, which takes ten minutes more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import programs
from go_programs import CannotBuild, GoPrograms, kubernetes_flags

HERE: Final = Path(__file__).resolve().parent
NODE: Final = GoPrograms(
    "kubernetes-node",
    HERE,
    {
        "pause": ("pause", "segue/node/pause"),
        "containerd": ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
        "containerd-shim-runc-v2": ("containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
        "ctr": ("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
        "kubelet": ("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
        "kube-proxy": ("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    },
    duration="eight minutes",
    flags=kubernetes_flags(HERE / "kubernetes" / "go.mod"),
)
KEDA: Final = GoPrograms(
    "keda",
    HERE,
    {
        "keda-operator": ("keda", "github.com/kedacore/keda/v2/cmd/operator"),
        "keda-adapter": ("keda", "github.com/kedacore/keda/v2/cmd/adapter"),
    },
    duration="ten minutes",
)


def say(line: str) -> None:
    """Tell the developer what is being built."""
    print(f"kubernetes: {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Build what is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keda", action="store_true", help="KEDA too")
    wanted = [NODE, KEDA] if parser.parse_args().keda else [NODE]
    try:
        programs.built(say)
        for each in wanted:
            each.built(say)
    except CannotBuild as error:
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
