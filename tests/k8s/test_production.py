"""The overlay for production on a real API server: it runs, and is drained, restarted and renewed as described."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.deploy.manifests import Manifest
from tests.k8s.applied import Applied, Cluster, applied_to, pod_ids, runs_and_stays
from tests.patience import patient

import validate
from contracts.topics import SERVICES

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

RESTRICTED: Manifest = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def production(cluster: Cluster) -> Iterator[Applied]:
    with applied_to(cluster, "production") as applied:
        yield applied


def test_production_runs_after_one_apply_and_a_second_changes_nothing(production: Applied) -> None:
    runs_and_stays(production)


def test_replicas_are_on_nodes_of_their_own(production: Applied) -> None:
    assert len({pod["spec"]["nodeName"] for pod in gateways(production.cluster)}) == 2


@pytest.fixture
def no_free_node(production: Applied) -> Iterator[Callable[[], None]]:
    """The nodes take no more pods, until the function is called."""

    def uncordon() -> None:
        production.cluster.do("uncordon", "--selector=kubernetes.io/hostname")

    production.cluster.do("cordon", "--selector=kubernetes.io/hostname")
    yield uncordon
    uncordon()


def test_a_node_is_drained_only_as_far_as_the_budget_allows(
    production: Applied, no_free_node: Callable[[], None]
) -> None:
    cluster = production.cluster
    first, second = gateways(cluster)
    drain(cluster, first)
    # There is no node for its successor, so this one is the only gateway that runs.
    assert "disruption budget" in evict(cluster, second)
    no_free_node()
    cluster.rolled_out()
    drain(cluster, second)
    cluster.rolled_out()
    assert second["spec"]["nodeName"] not in {pod["spec"]["nodeName"] for pod in gateways(cluster)}


def gateways(cluster: Cluster) -> list[Manifest]:
    """The gateway's pods that run."""
    return cluster.get(
        "pod", "--namespace=segue", "--selector=app.kubernetes.io/name=gateway", "--field-selector=status.phase=Running"
    )


def drain(cluster: Cluster, pod: Manifest) -> None:
    limit = f"--timeout={patient(60):.0f}s"
    cluster.do("drain", pod["spec"]["nodeName"], "--delete-emptydir-data", "--ignore-daemonsets", limit)


def evict(cluster: Cluster, pod: Manifest) -> str:
    """Ask for a pod's eviction, which has to be refused; returns the reason."""
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "segue"}}
    done = cluster.run(
        "create", "--raw", f"/api/v1/namespaces/segue/pods/{name}/eviction", "-f", "-", given=json.dumps(body)
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_a_restart_rolls_through_every_service(production: Applied) -> None:
    cluster = production.cluster
    before = pod_ids(cluster)
    cluster.do("rollout", "restart", "deployment", "--namespace=segue")
    cluster.rolled_out()
    pods = cluster.get("pod", "--namespace=segue", "--selector=app.kubernetes.io/name!=setup")
    running = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in running} == set(SERVICES)
    assert not before & {each["metadata"]["uid"] for each in running}


def test_another_release_is_applied_once_the_job_is_deleted(production: Applied) -> None:
    image, cluster = "registry.example.com/segue:next", production.cluster
    release = [with_image(each, image) for each in production.objects()]
    [job] = [each for each in release if each["kind"] == "Job"]
    assert "field is immutable" in cluster.refused(job)
    cluster.do("delete", "job", "setup", "--namespace=segue")
    cluster.apply(release)
    cluster.rolled_out()
    cluster.wait("condition=Complete", "job/setup")
    assert {each["spec"]["containers"][0]["image"] for each in gateways(cluster)} == {image}


def with_image(manifest: Manifest, image: str) -> Manifest:
    """The manifest with another image in every container."""
    changed = copy.deepcopy(manifest)
    pod: Any = changed.get("spec", {}).get("template", {}).get("spec", {})
    for each in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        each["image"] = image
    return changed


@pytest.mark.parametrize(
    ("kind", "path", "change", "reason"),
    [
        pytest.param(
            "Deployment",
            ("spec", "template", "spec"),
            {"terminationGracePeriodSecond": 30},
            'unknown field "spec.template.spec.terminationGracePeriodSecond"',
            id="a misspelling",
        ),
        pytest.param(
            "KafkaTopic", ("spec",), {"partition": 6}, 'unknown field "spec.partition"', id="a topic's misspelling"
        ),
        pytest.param(
            "KafkaTopic", ("spec",), {"partitions": "six"}, "must be of type integer", id="a topic's wrong value"
        ),
        pytest.param("ScaledObject", ("spec",), {"minReplicas": 1}, 'unknown field "spec.minReplicas"', id="scaling"),
        pytest.param("HTTPRoute", ("spec", "rules", 0, "timeouts"), {"request": "75"}, "should match", id="a time"),
    ],
)
def test_a_planted_error_is_refused(
    kind: str, path: tuple[str | int, ...], change: Manifest, reason: str, production: Applied
) -> None:
    manifest = next(each for each in production.objects() if each["kind"] == kind)
    at: Any = manifest
    for step in path:
        at = at[step]
    at |= change
    assert reason in production.cluster.refused(manifest)
    assert list(validate.faults(manifest)), "and the check without a cluster finds it too"


def test_a_pod_with_more_rights_is_refused(production: Applied) -> None:
    def pod(name: str, **own: object) -> Manifest:
        container = {"name": "shell", "image": "segue:dev", "securityContext": {**RESTRICTED, **own}}
        spec = {"containers": [container]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "segue"}, "spec": spec}

    production.cluster.apply([pod("confined")])
    production.cluster.do("delete", "pod", "confined", "--namespace=segue")
    assert 'violates PodSecurity "restricted' in production.cluster.refused(
        pod("root", runAsNonRoot=False, runAsUser=0)
    )
    assert "allowPrivilegeEscalation" in production.cluster.refused(pod("climber", allowPrivilegeEscalation=True))
    assert "capabilities" in production.cluster.refused(
        pod("capable", capabilities={"add": ["NET_ADMIN"], "drop": ["ALL"]})
    )
