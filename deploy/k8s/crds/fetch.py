"""`python deploy/k8s/crds/fetch.py` writes the custom resource definitions that the manifests are checked against.

They are those of the projects below, without descriptions and without earlier versions. It needs Go, Maven and Java 21;
a check only reads what is committed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).resolve().parent
GO_MODULES: Final = {
    "sigs.k8s.io/gateway-api@v1.6.3": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    "github.com/kedacore/keda/v2@v2.21.0": [
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ],
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "github.com/external-secrets/external-secrets@v1.3.2": [
        "config/crds/bases/external-secrets.io_externalsecrets.yaml"
    ],
}
STRIMZI: Final = "1.2.0"
STRIMZI_CLASSES: Final = ("topic.KafkaTopic", "user.KafkaUser")
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>segue</groupId><artifactId>crds</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>io.strimzi</groupId><artifactId>crd-generator</artifactId><version>{0}</version></dependency>
    <dependency><groupId>io.strimzi</groupId><artifactId>api</artifactId><version>{0}</version></dependency>
  </dependencies>
</project>
"""


def of_go() -> Iterator[dict[str, Any]]:
    """The definitions that lie in Go modules."""
    for module, names in GO_MODULES.items():
        told = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, text=True)
        folder = Path(json.loads(told.stdout)["Dir"])
        for name in names:
            yield yaml.safe_load((folder / name).read_text("utf-8"))


def of_strimzi() -> Iterator[dict[str, Any]]:
    """The definitions that Strimzi generates from its classes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "pom.xml").write_text(_POM.format(STRIMZI), "utf-8")
        copy = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        subprocess.run(copy, check=True, cwd=folder)
        files = {name: folder / f"{name}.yaml" for name in STRIMZI_CLASSES}
        wanted = [f"io.strimzi.api.kafka.model.{name}={path}" for name, path in files.items()]
        generate = ["java", "-cp", f"{folder}/libs/*", "io.strimzi.crdgenerator.CrdGenerator", "--target-kube", "1.27+"]
        subprocess.run([*generate, "--yaml", *wanted], check=True)
        for path in files.values():
            yield yaml.safe_load(path.read_text("utf-8"))


def compact(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition's stored version, without texts for people."""
    spec = definition["spec"]
    spec.pop("conversion", None)
    spec["versions"] = [_without_descriptions(version) for version in spec["versions"] if version["storage"]]
    metadata = definition["metadata"]
    kept = {name: metadata[name] for name in ("name",)}
    # The API server accepts a name below k8s.io only where its review is named.
    approved = {name: text for name, text in metadata.get("annotations", {}).items() if name.startswith("api-approved")}
    return {**definition, "metadata": {**kept, **({"annotations": approved} if approved else {})}, "spec": spec}


def _without_descriptions(value: Any) -> Any:
    if isinstance(value, dict):
        texts = {name for name, each in value.items() if name == "description" and isinstance(each, str)}
        return {name: _without_descriptions(each) for name, each in value.items() if name not in texts}
    return [_without_descriptions(each) for each in value] if isinstance(value, list) else value


def main() -> int:
    """The command; returns its exit code."""
    for definition in (*of_go(), *of_strimzi()):
        found = compact(definition)
        path = HERE / f"{found['metadata']['name']}.json"
        path.write_text(json.dumps(found, separators=(",", ":"), ensure_ascii=False) + "\n", "utf-8")
        sys.stdout.write(f"written: {path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
