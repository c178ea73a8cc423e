"""`python deploy/k8s/validate.py` renders every overlay and component, and checks each object against its schema.

It needs no cluster and no network: kubectl and the schemas of Kubernetes come with the development tools, those of
custom resources are in `crds/`. A field that the schema does not know is an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

HERE: Final = Path(__file__).resolve().parent
KUBECTL: Final = Path(sys.executable).with_name("kubectl")
VERSIONS: Final = ("1.31", "1.36")
"""The oldest Kubernetes that the manifests are for, and the newest that they are tried with."""

Manifest = dict[str, Any]


class CannotRender(Exception):
    """Kustomize refused; its last line."""


def rendered(*folders: Path, components: Sequence[Path] = ()) -> list[Manifest]:
    """The objects of folders of manifests together, with components. Raises CannotRender."""
    with tempfile.TemporaryDirectory() as temporary:
        # The temporary folder may be a link to another place, from which `..` leads elsewhere.
        own = Path(temporary).resolve()
        kinds = {"resources": folders, "components": components}
        lists = {kind: [os.path.relpath(path, own) for path in paths] for kind, paths in kinds.items()}
        (own / "kustomization.yaml").write_text(yaml.safe_dump(lists), "utf-8")
        told = subprocess.run([KUBECTL, "kustomize", own], capture_output=True, text=True, check=False)
    if told.returncode:
        raise CannotRender(told.stderr.strip().splitlines()[-1])
    return [each for each in yaml.load_all(told.stdout, yaml.CSafeLoader) if each]


def everything() -> Iterator[tuple[str, list[Manifest]]]:
    """Each overlay, and the base with each component by itself, with a name."""
    for overlay in sorted((HERE / "overlays").iterdir()):
        yield f"overlays/{overlay.name}", rendered(overlay)
    for component in sorted((HERE / "components").iterdir()):
        yield f"components/{component.name}", rendered(HERE / "base", components=[component])


def faults(manifest: Manifest) -> Iterator[str]:
    """What is wrong with an object, as text; nothing if it is valid in every version."""
    api, kind = manifest["apiVersion"], manifest["kind"]
    own = _custom_resources().get((api, kind))
    validators = [own] if own else [_built_in(version, api, kind) for version in VERSIONS]
    for validator in validators:
        error = best_match(validator.iter_errors(manifest))
        if error is not None:
            yield f"{kind} {manifest['metadata']['name']}: {error.json_path}: {error.message}"
            return


@cache
def _custom_resources() -> dict[tuple[str, str], Draft202012Validator]:
    found = {}
    for path in (HERE / "crds").glob("*.json"):
        spec = json.loads(path.read_text("utf-8"))["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            # Kubernetes knows these of every object.
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = Draft202012Validator(schema)
    return found


def _strict(schema: Any) -> Any:
    """A schema of OpenAPI as one of JSON Schema, in which unknown fields are errors, as they are to the API server."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(each) for name, each in schema.items()}
    if found.pop("nullable", False) is True and "type" in found:
        found["type"] = [found["type"], "null"]
    if found.get("type") == "object" and isinstance(found.get("properties"), dict):
        open_to_others = found.get("x-kubernetes-preserve-unknown-fields", False)
        found.setdefault("additionalProperties", bool(open_to_others))
    return found


@cache
def _built_in(version: str, api: str, kind: str) -> Draft202012Validator:
    group, _, number = api.rpartition("/")
    name = f"{kind}-{group.split('.')[0]}{'-' if group else ''}{number}.json".lower()
    try:
        schema = json.loads(_schemas(version).joinpath(name).read_text("utf-8"))
    except FileNotFoundError:
        raise SystemExit(f"Kubernetes {version} has no {kind} of {api}, and crds/ has none either") from None
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Any:
    schema = json.loads(_schemas(version).joinpath("_definitions.json").read_text("utf-8"))
    return Resource.from_contents(schema) @ Registry()


def _schemas(version: str) -> Any:
    return files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{version}.0-local-strict")


def main() -> int:
    """The command; returns its exit code."""
    count, wrong = 0, 0
    for name, manifests in everything():
        count += len(manifests)
        for fault in (each for manifest in manifests for each in faults(manifest)):
            wrong += 1
            sys.stdout.write(f"deploy/k8s/{name}: {fault}\n")
    sys.stdout.write(f"{count} objects of Kubernetes, {wrong} of them wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
