"""The manifests for Kubernetes: valid, confined, with what each service needs and no more."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.manifests import K8S, OVERLAYS, ROOT, containers, one, overlay, pods

import generate
import validate
from adapter_kit.artifacts.collector import COLLECTIONS_AT_ONCE, CONCURRENCY, MAX_BYTES
from contracts.access import grants
from contracts.providers.registry import PROVIDERS
from contracts.topics import PARTITIONS, SERVICES, TOPICS, TopicNames
from segue_cli.stack.environment import PROVIDER_SETTINGS
from segue_cli.stack.migrations import SCHEMAS
from segue_cli.stack.service_settings import settings_kind


def test_every_object_is_valid() -> None:
    found = {name: [fault for each in manifests for fault in validate.faults(each)] for name, manifests in RENDERED}
    assert not {name: faults for name, faults in found.items() if faults}
    assert len(found) >= len(OVERLAYS) + 7


RENDERED = list(validate.everything())

WRONG: dict[str, tuple[str, str, list[Any], dict[str, Any]]] = {
    "a misspelling": ("Deployment", "gateway", ["spec", "template", "spec"], {"terminationGracePeriodSecond": 30}),
    "a wrong type": ("PodDisruptionBudget", "gateway", ["spec"], {"unhealthyPodEvictionPolicy": 1}),
    "an unknown field of a topic": ("KafkaTopic", "segue.jobs", ["spec"], {"partition": 6}),
    "topics without partitions": ("KafkaTopic", "segue.jobs", ["spec"], {"partitions": 0}),
    "an unknown field of a scaled object": ("ScaledObject", "log-sink", ["spec"], {"minReplicas": 1}),
    "a time without a unit": ("HTTPRoute", "gateway", ["spec", "rules", 0, "timeouts"], {"request": "75"}),
    "an operation that Kafka has not": (
        "KafkaUser",
        "segue-gateway",
        ["spec", "authorization", "acls", 0],
        {"operations": ["Look"]},
    ),
    "a rule without an expression": ("PrometheusRule", "segue", ["spec", "groups", 0, "rules", 0], {"expr": None}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_planted_error_is_found(name: str) -> None:
    kind, called, path, change = WRONG[name]
    manifest = one("production", kind, called)
    assert not list(validate.faults(manifest))
    at: Any = manifest
    for step in path:
        at = at[step]
    at |= change
    assert list(validate.faults(manifest))


def test_in_production_each_record_has_three_copies() -> None:
    (job,) = [each for each in validate.rendered(K8S / "base") if each["kind"] == "Job"]
    (task,) = [each for each in containers(job["spec"]["template"]) if each["name"] == "topics"]
    assert task["args"] == ["topics", "--create", "--replication", "3"]
    made = [each["spec"] for each in overlay("production") if each["kind"] == "KafkaTopic"]
    assert len(made) == len(TOPICS)
    assert {(spec["replicas"], spec["config"]["min.insync.replicas"]) for spec in made} == {(3, "2")}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_outputs_that_an_adapter_fetches_at_a_time_do_not_evict_its_pod(name: str) -> None:
    for provider in PROVIDERS.values():
        volumes = one(name, "Deployment", provider.service)["spec"]["template"]["spec"]["volumes"]
        (limit,) = [each["emptyDir"]["sizeLimit"] for each in volumes if each["name"] == "tmp"]
        assert limit.endswith("Gi")
        assert int(limit.removesuffix("Gi")) * 2**30 > COLLECTIONS_AT_ONCE * CONCURRENCY * MAX_BYTES


def test_what_is_generated_is_fresh() -> None:
    assert generate.stale() == []


def test_drift_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(K8S, tmp_path / "k8s", ignore=shutil.ignore_patterns("crds", "cluster"))
    monkeypatch.setattr(generate, "HERE", tmp_path / "k8s")
    assert generate.stale() == []
    path = tmp_path / "k8s" / "components" / "strimzi" / "topics.yaml"
    path.write_text(path.read_text().replace("partitions: 6", "partitions: 7"))
    assert generate.stale() == ["components/strimzi/topics.yaml"]


def test_the_topics_are_those_of_the_map() -> None:
    found = {each["spec"]["topicName"]: each for each in overlay("production") if each["kind"] == "KafkaTopic"}
    assert found.keys() == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        spec = found[topic.name]["spec"]
        assert spec["partitions"] == PARTITIONS
        assert spec["config"] == topic.config_for(spec["replicas"])
        assert found[topic.name]["apiVersion"] == "kafka.strimzi.io/v1"


@pytest.mark.parametrize("service", SERVICES)
def test_a_user_may_do_what_its_service_does(service: str) -> None:
    assert rights_of(service) == {
        (each.resource, each.name, operation) for each in grants(TopicNames())[service] for operation in each.operations
    }


def test_the_job_that_waits_for_topics_may_see_them_and_no_more() -> None:
    assert rights_of("setup") == {("topic", topic.name, "Describe") for topic in TOPICS}


def rights_of(user: str) -> set[tuple[str, str, str]]:
    acls = one("production", "KafkaUser", f"segue-{user}")["spec"]["authorization"]["acls"]
    assert {acl["resource"]["patternType"] for acl in acls} == {"literal"}
    return {
        (acl["resource"]["type"], acl["resource"]["name"], operation) for acl in acls for operation in acl["operations"]
    }


def test_every_consumer_is_scaled_by_the_lag_of_each_of_its_topics() -> None:
    found = {each["metadata"]["name"]: each for each in overlay("production") if each["kind"] == "ScaledObject"}
    assert found.keys() == {service for topic in TOPICS for service in topic.groups}
    for service, each in found.items():
        lags = [t["metadata"] for t in each["spec"]["triggers"] if t["type"] == "kafka"]
        assert {lag["topic"] for lag in lags} == {topic.name for topic in TOPICS if service in topic.groups}
        assert {lag["consumerGroup"] for lag in lags} == {service}
        # By default KEDA counts a message for each partition that nobody has read from yet.
        assert {lag["offsetResetPolicy"] for lag in lags} == {"earliest"}
        assert each["spec"]["maxReplicaCount"] == PARTITIONS
        assert "replicas" not in one("production", "Deployment", service)["spec"]


def test_metrics_that_the_manifests_name_exist() -> None:
    known = set(re.findall(r"^\| `(segue_\w+)`", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE))
    rules = [rule for g in one("production", "PrometheusRule", "segue")["spec"]["groups"] for rule in g["rules"]]
    scaled = [each for each in overlay("production") if each["kind"] == "ScaledObject"]
    queries = [
        trigger["metadata"]["query"]
        for each in scaled
        for trigger in each["spec"]["triggers"][-1:]
        if "query" in trigger["metadata"]
    ]
    used = set(re.findall(r"segue_\w+", " ".join([*(rule["expr"] for rule in rules), *queries])))
    assert len(used) >= 8
    assert used <= known


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_pod_has_no_right_that_it_does_not_need(name: str) -> None:
    for what, pod in pods(name):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, what
        assert spec["enableServiceLinks"] is False, what
        assert spec["securityContext"]["runAsNonRoot"] is True, what
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, what
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, what
            assert own["capabilities"] == {"drop": ["ALL"]}, what
            # The image of Kafka writes its settings into a folder of its own.
            assert own.get("readOnlyRootFilesystem") is True or container["image"].startswith("apache/kafka"), what


@pytest.mark.parametrize("name", OVERLAYS)
def test_memory_is_limited_to_twice_what_is_requested_and_the_processor_is_not(name: str) -> None:
    for what, pod in pods(name):
        for container in containers(pod):
            resources = container["resources"]
            assert resources["limits"].keys() == {"memory"}, what
            assert resources["requests"].keys() == {"memory", "cpu"}, what
            asked, limit = (int(resources[each]["memory"].removesuffix("Mi")) for each in ("requests", "limits"))
            assert limit == 2 * asked, what


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_started_watched_and_stopped_as_it_needs(name: str, service: str) -> None:
    deployment = one(name, "Deployment", service)
    spec = deployment["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert container["args"] == ["run", service]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    env = {each["name"]: each["value"] for each in container.get("env", [])}
    # The image serves on 8080; a gateway has its health pages elsewhere too.
    assert ports["health"] == int(env.get("SEGUE_HEALTH_PORT", "8080"))
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {"health"}
    assert [probe["path"] for probe in probes.values()] == ["/livez", "/readyz", "/livez"]
    drain_s = float(config(name)["SEGUE_DRAIN_S"])
    before_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert spec["terminationGracePeriodSeconds"] >= before_s + drain_s + 10
    waits = {each["name"]: each.get("args") for each in spec["initContainers"]}
    assert waits["topics"] == ["topics", "--wait", "600"]
    [schema] = [schema for schema in SCHEMAS if schema.replace("_", "-") == service]
    assert waits["schema"] == ["migrate", schema, "--wait", "600"]
    budget = one(name, "PodDisruptionBudget", service)
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert {each["topologyKey"] for each in spec["topologySpreadConstraints"]} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }


def config(name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in overlay(name):
        # Those of dashboards are files, in the namespace of Grafana.
        if each["kind"] == "ConfigMap" and each["metadata"]["namespace"] == "segue":
            found |= each["data"]
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_settings_are_set_that_a_service_reads(name: str) -> None:
    known = {
        alias
        for service in SERVICES
        for field in settings_kind(service).model_fields.values()
        for alias in [str(field.validation_alias), *getattr(field.validation_alias, "choices", [])]
    }
    env = {each["name"] for _, pod in pods(name) for c in pod["spec"]["containers"] for each in c.get("env", [])}
    ours = {each for each in {*config(name), *env} if not each.startswith(("KAFKA_", "POSTGRES_", "PG"))}
    assert ours - known <= {"SSL_CERT_FILE", "SEGUE_API"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_secret_is_read_by_one_service_and_a_providers_key_by_its_adapter(name: str) -> None:
    readers: dict[str, set[str]] = {}
    for what, pod in pods(name):
        for container in containers(pod):
            for source in container.get("envFrom", []):
                if "secretRef" in source:
                    readers.setdefault(source["secretRef"]["name"], set()).add(what.split()[1])
    assert readers == {secret: {secret} for secret in readers}
    assert {*SERVICES, "setup"} <= readers.keys()


def test_no_key_stands_outside_of_secrets() -> None:
    secrets = {each["metadata"]["name"]: each["data"] for each in overlay("demo") if each["kind"] == "Secret"}
    keys = {key for key in PROVIDER_SETTINGS if key.endswith(("_KEY", "_TOKEN", "_SECRET"))}
    assert {name: data.keys() & keys for name, data in secrets.items() if data.keys() & keys} == {
        "fal-adapter": {"FAL_KEY"},
        "replicate-adapter": {"REPLICATE_API_TOKEN"},
    }
    values = {base64.b64decode(value).decode() for data in secrets.values() for value in data.values()}
    for name in OVERLAYS:
        others = yaml.safe_dump_all([each for each in overlay(name) if each["kind"] != "Secret"])
        assert not [value for value in values if value in others]
        assert not [key for key in keys if key in others]
