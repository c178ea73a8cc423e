"""The rendered manifests for Kubernetes, and what the tests of them look at."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import validate

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
Manifest = dict[str, Any]
OVERLAYS = ("demo", "production")
POD_KINDS = {"Deployment", "StatefulSet", "Job"}


@cache
def overlay(name: str) -> list[Manifest]:
    return validate.rendered(K8S / "overlays" / name)


def one(name: str, kind: str, called: str) -> Manifest:
    [found] = [each for each in overlay(name) if each["kind"] == kind and each["metadata"]["name"] == called]
    return copy.deepcopy(found)


def pods(name: str) -> Iterator[tuple[str, Manifest]]:
    for each in overlay(name):
        if each["kind"] in POD_KINDS:
            yield f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
