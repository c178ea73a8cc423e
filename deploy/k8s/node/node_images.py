"""Images from the local storage of buildah and podman to the node's containerd, without a registry."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from node_settings import PAUSE

Manifest = Mapping[str, Any]

HUB: Final = ("docker", "io")
"""In two parts: no file of this repository has the full name of a registry."""
STORE: Final = "containers-storage:[overlay@/var/lib/containers/storage+/run/containers/storage]"


def full_name(image: str) -> str:
    """The name by which containerd knows an image, with the registry of images whose name has none."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    hub = ".".join(HUB)
    return f"{hub}/{image}" if slash else f"{hub}/library/{image}"


def images_of(manifests: Iterable[Manifest]) -> set[str]:
    """The images that the pods of manifests use."""
    pods = (each.get("spec", {}).get("template", {}).get("spec", {}) for each in manifests)
    return {one["image"] for pod in pods for kind in ("initContainers", "containers") for one in pod.get(kind, [])}


def imported(images: Mapping[str, str], ctr: Sequence[str]) -> None:
    """Import images: each by the name that pods use, from its name in the local storage. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="segue-images-") as name:
        folder = Path(name)
        for wanted, stored in images.items():
            copy = ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", f"{STORE}{stored}"]
            subprocess.run([*copy, f"oci:{folder}:{full_name(wanted)}"], check=True)
        index = folder / "index.json"
        index.write_text(_named_for_containerd(index.read_text()))
        with subprocess.Popen(["tar", "-C", str(folder), "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*ctr, "--namespace=k8s.io", "images", "import", "-"], stdin=tar.stdout, check=True)


def _named_for_containerd(index: str) -> str:
    listed = json.loads(index)
    for each in listed["manifests"]:
        named = each["annotations"]["org.opencontainers.image.ref.name"]
        each["annotations"]["io.containerd.image.name"] = named
    return json.dumps(listed)


def pause_built(program: Path) -> None:
    """Make the image of the container that holds a pod's namespaces, in the local storage."""
    steps = [
        ["config", "--entrypoint", '["/pause"]', "--user", "65535:65535"],
        ["commit", "--quiet", "--rm"],
    ]
    made = subprocess.run(["buildah", "from", "scratch"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["buildah", "copy", "--quiet", made, str(program), "/pause"], check=True, capture_output=True)
    subprocess.run(["buildah", *steps[0], made], check=True)
    subprocess.run(["buildah", *steps[1], made, PAUSE], check=True, capture_output=True)
