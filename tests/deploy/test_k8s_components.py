"""Components that no overlay uses: secrets as files, and KEDA's login at Kafka."""

from __future__ import annotations

from tests.deploy.manifests import K8S, POD_KINDS, Manifest, containers

import validate
from chassis.settings.names import SECRETS
from contracts.access import grants
from contracts.topics import SERVICES, TopicNames

AT = "/run/secrets/segue"


def with_components(*names: str) -> list[Manifest]:
    return validate.rendered(K8S / "base", components=[K8S / "components" / name for name in names])


def test_secrets_that_are_files_are_in_no_environment() -> None:
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in with_components("secret-files")
        if each["kind"] in POD_KINDS
    }
    assert pods.keys() == {*SERVICES, "setup"}
    for name, pod in pods.items():
        [volume] = [each for each in pod["spec"]["volumes"] if each["name"] == "secrets"]
        # The group of the pods may read it, and nobody else.
        assert volume["secret"] == {"secretName": name, "defaultMode": 0o440}
        assert pod["spec"]["securityContext"]["fsGroup"] == 65532
        for container in containers(pod):
            assert not [source for source in container["envFrom"] if "secretRef" in source]
            assert {"name": "secrets", "mountPath": AT, "readOnly": True} in container["volumeMounts"]


def test_each_file_is_that_of_a_secret_and_each_required_key_has_one() -> None:
    files = {
        each["metadata"]["name"]: {
            one["name"]: one["value"] for one in container["env"] if one["name"].endswith("_FILE")
        }
        for each in with_components("secret-files")
        if each["kind"] in POD_KINDS
        for container in containers(each["spec"]["template"])
    }
    for named in files.values():
        for name, path in named.items():
            assert path == f"{AT}/{name.removesuffix('_FILE')}"
            assert name.removesuffix("_FILE") in SECRETS
    assert all("DATABASE_URL_FILE" in named for named in files.values())
    assert "FAL_KEY_FILE" in files["fal-adapter"]
    assert "REPLICATE_API_TOKEN_FILE" in files["replicate-adapter"]


def test_every_trigger_that_reads_kafka_logs_in() -> None:
    found = with_components("keda", "keda-kafka-login")
    [login] = [each for each in found if each["kind"] == "TriggerAuthentication"]
    assert {each["parameter"] for each in login["spec"]["secretTargetRef"]} == {"username", "password", "ca"}
    triggers = [trigger for each in found if each["kind"] == "ScaledObject" for trigger in each["spec"]["triggers"]]
    assert [each for each in triggers if each["type"] == "kafka"]
    for trigger in triggers:
        if trigger["type"] != "kafka":
            assert "authenticationRef" not in trigger
            continue
        assert trigger["authenticationRef"] == {"name": login["metadata"]["name"]}
        of_kafka = trigger["metadata"]
        assert (of_kafka["sasl"], of_kafka["tls"]) == ("scram_sha512", "enable")
        assert of_kafka["bootstrapServers"].endswith(":9093")


def test_the_scalers_user_sees_what_services_consume_and_reads_nothing() -> None:
    [user] = [each for each in with_components("keda-kafka-login") if each["kind"] == "KafkaUser"]
    acls = user["spec"]["authorization"]["acls"]
    assert {operation for acl in acls for operation in acl["operations"]} == {"Describe"}
    consumed = {
        (each.resource, each.name)
        for service, several in grants(TopicNames()).items()
        for each in several
        if service != "gateway" and "Read" in each.operations
    }
    assert {(acl["resource"]["type"], acl["resource"]["name"]) for acl in acls} == consumed
