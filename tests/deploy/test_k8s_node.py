"""The real node: what is built for it fits the control plane, and its settings leave the machine alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tomllib
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.manifests import K8S, containers, overlay

import node_images
import node_init
import node_keda
import node_network
import node_proof
import node_settings
import validate
from contracts.topics import SERVICES
from go_programs import version_of


def test_the_kubelet_is_of_the_version_of_the_control_plane() -> None:
    versions = [
        version_of(K8S / folder / "kubernetes" / "go.mod", "k8s.io/kubernetes") for folder in ("cluster", "node")
    ]
    assert versions[0] == versions[1]


def test_keda_is_of_the_version_whose_definitions_are_here() -> None:
    version = version_of(K8S / "node" / "keda" / "go.mod", "github.com/kedacore/keda/v2")
    assert f"github.com/kedacore/keda/v2@{version}" in (K8S / "crds" / "fetch.py").read_text()


def test_the_networks_of_pods_services_and_the_node_do_not_overlap() -> None:
    link = ip_network(f"{node_network.MACHINE}/{node_network.PREFIX}", strict=False)
    assert ip_address(node_network.NODE) in link
    networks = [link, ip_network(node_network.PODS), ip_network(node_network.SERVICES)]
    assert not [(a, b) for a in networks for b in networks if a is not b and a.overlaps(b)]


def test_the_kubelet_changes_no_setting_of_the_machine() -> None:
    kubelet = yaml.safe_load(node_settings.kubelet(Path("/n")))
    # Without this feature it ends where it may not change a setting.
    assert kubelet["featureGates"] == {"KubeletInUserNamespace": True}
    assert kubelet["makeIPTablesUtilChains"] is False
    assert {"vm/overcommit_memory", "kernel/panic"} <= set(node_init.KEPT)
    proxy = yaml.safe_load(node_settings.proxy(Path("/n/kubeconfig")))
    assert set(proxy["conntrack"].values()) == {0, "0s"}


def test_containerd_runs_pods_with_runc_from_its_own_folder() -> None:
    config = tomllib.loads(node_settings.containerd(Path("/n")))
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == node_settings.RUNC
    assert config["grpc"]["address"] == yaml.safe_load(node_settings.kubelet(Path("/n")))[
        "containerRuntimeEndpoint"
    ].removeprefix("unix://")
    [plugin] = json.loads(node_settings.pod_network(Path("/n")))["plugins"]
    assert plugin["type"] == "ptp"


def test_names_are_those_of_services_with_an_address() -> None:
    services = [
        {"metadata": {"name": "kafka", "namespace": "segue"}, "spec": {"clusterIP": "10.96.0.7"}},
        {"metadata": {"name": "headless", "namespace": "segue"}, "spec": {"clusterIP": "None"}},
    ]
    assert node_settings.hosts(services) == "10.96.0.7 kafka.segue.svc.cluster.local\n"


def test_an_image_has_the_name_that_containerd_gives_it() -> None:
    assert node_images.full_name("localhost/segue:before") == "localhost/segue:before"
    assert node_images.full_name("registry.example.com/segue:1") == "registry.example.com/segue:1"
    assert node_images.full_name("segue:dev").endswith("/library/segue:dev")
    assert node_images.full_name("apache/kafka:4.3.0").endswith("/apache/kafka:4.3.0")
    assert node_proof.RELEASE in node_images.images_of(overlay("demo"))


def test_an_earlier_release_is_that_of_services_alone() -> None:
    earlier = node_proof.before(overlay("demo"), "segue:before")
    images = {
        each["metadata"]["name"]: {one["image"] for one in containers(each["spec"]["template"])}
        for each in earlier
        if each["kind"] in ("Deployment", "Job")
    }
    assert {name for name, used in images.items() if used == {"segue:before"}} == {*SERVICES, "setup"}
    assert images["sandbox"] == {node_proof.RELEASE}
    assert "demo" not in images
    assert node_proof.RELEASE in node_images.images_of(overlay("demo"))


def test_keda_scales_the_adapters_of_the_demo_by_its_kafka() -> None:
    rendered = validate.rendered(K8S / "base", components=[K8S / "components" / "keda"])
    found = node_keda.scaled(rendered)
    assert {each["metadata"]["name"] for each in found} == {"fal-adapter", "replicate-adapter"}
    for each in found:
        assert not list(validate.faults(each))
        assert {trigger["type"] for trigger in each["spec"]["triggers"]} == {"kafka"}


class Seen(node_proof.Proof):
    """A proof that notes what it would do."""

    def __init__(self, folder: Path) -> None:
        super().__init__("", folder, [])
        self.did: list[str] = []

    async def kubectl(self, *arguments: str, given: str | None = None) -> str:
        if "deployment" in arguments and "restart" in arguments:
            self.did.append("restart")
        return json.dumps({"items": []})

    async def apply(self, manifests: Any) -> None:
        for each in manifests:
            if (each["kind"], each["metadata"]["name"]) == ("Deployment", "gateway"):
                [one] = containers(each["spec"]["template"])[-1:]
                self.did.append(one["image"])

    @contextlib.asynccontextmanager
    async def under_load(self, name: str, rate: float, least: int) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(
    ("parts", "does"),
    [
        (["upgrade"], ["before", "segue:dev", "segue:dev"]),
        (["restart"], ["segue:dev", "segue:dev", "restart"]),
        (["keda"], ["segue:dev", "segue:dev", "keda"]),
        (["keda", "restart", "upgrade"], ["before", "segue:dev", "segue:dev", "restart", "keda"]),
    ],
    ids=["upgrade", "restart", "keda", "all"],
)
def test_each_part_can_run_alone(
    parts: list[str], does: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, imported = Seen(tmp_path), dict[str, str]()

    async def scaled_too(_: node_proof.Proof) -> None:
        proof.did.append("keda")

    monkeypatch.setattr(node_images, "imported", lambda images, _: imported.update(images))
    monkeypatch.setattr(node_keda, "prove", scaled_too)
    options = argparse.Namespace(parts=parts, image="this", before="before", rate=1.0, jobs=1)
    asyncio.run(node_proof.prove(proof, options))
    assert proof.did == does
    assert imported["segue:dev"] == "this"
    # An earlier release need not be there for the other parts.
    assert ("before" in imported) is ("upgrade" in parts)
