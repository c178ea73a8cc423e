"""The settings of Kafka: what goes together, what is refused in one line, and what a cluster is made of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.kafka.secured import Authority

from chassis.settings.kafka.cluster import KafkaCluster, Login, Tls
from chassis.settings.kafka.settings import KafkaSettings
from chassis.settings.service import WrongSettings, settings_of
from contracts.topics import TopicNames

SECRET = "hunter2"
SERVERS = {"KAFKA_BOOTSTRAP_SERVERS": "a:9093"}
LOGIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "me",
    "KAFKA_SASL_PASSWORD": SECRET,
}
IN_TLS = {"KAFKA_SECURITY_PROTOCOL": "SSL"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("KAFKA_", "SEGUE_TOPIC"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates and keys: `me`, `other`, `locked` with a password, and files that are none."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    for name in ("me", "other"):
        authority.issue(name)
    authority.issue("locked", password=SECRET)
    (folder / "both.pem").write_bytes((folder / "me.key").read_bytes() + (folder / "me.pem").read_bytes())
    (folder / "store.jks").write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2")
    (folder / "store.p12").write_bytes(b"\x30\x82\x0a\x00")
    (folder / "empty.pem").write_bytes(b"")
    (folder / "broken.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    return folder


def cluster(environ: dict[str, str]) -> KafkaCluster:
    return settings_of(KafkaSettings, SERVERS | environ).kafka


@pytest.mark.parametrize(
    ("environ", "expected", "shown"),
    [
        ({}, KafkaCluster("a:9093"), "a:9093"),
        (
            LOGIN,
            KafkaCluster("a:9093", Login("SCRAM-SHA-512", "me", SECRET), Tls()),
            "a:9093 (SASL_SSL, SCRAM-SHA-512, User:me)",
        ),
        (
            LOGIN | {"KAFKA_SECURITY_PROTOCOL": "sasl_plaintext", "KAFKA_SASL_MECHANISM": "plain"},
            KafkaCluster("a:9093", Login("PLAIN", "me", SECRET)),
            "a:9093 (SASL_PLAINTEXT, PLAIN, User:me)",
        ),
        (
            IN_TLS | {"KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "None"},
            KafkaCluster("a:9093", tls=Tls(verify_host=False)),
            "a:9093 (SSL, User:ANONYMOUS)",
        ),
        (
            {"SEGUE_TOPIC_PREFIX": "staging.", "SEGUE_TOPIC_PARTITIONS": "12"},
            KafkaCluster("a:9093", names=TopicNames("staging.", 12)),
            "a:9093",
        ),
    ],
)
def test_settings_that_go_together_make_a_cluster(environ: dict[str, str], expected: KafkaCluster, shown: str) -> None:
    made = cluster(environ)
    assert made == expected
    assert str(made) == shown
    assert SECRET not in f"{made!r} {settings_of(KafkaSettings, SERVERS | environ)!r}"


@pytest.mark.parametrize(
    ("keystore", "key", "password", "subject"),
    [
        ("me.pem", "me.key", None, "me"),
        ("both.pem", None, None, "me"),
        ("locked.pem", "locked.key", SECRET, "locked"),
    ],
)
def test_the_principal_is_the_subject_of_the_certificate(
    files: Path, keystore: str, key: str | None, password: str | None, subject: str
) -> None:
    given = {
        "KAFKA_SSL_KEYSTORE_LOCATION": str(files / keystore),
        "KAFKA_SSL_KEY_LOCATION": str(files / key) if key else "",
        "KAFKA_SSL_KEY_PASSWORD": password or "",
        "KAFKA_SSL_TRUSTSTORE_LOCATION": str(files / "ca.pem"),
    }
    made = cluster(IN_TLS | given)
    assert made.principal == f"User:CN={subject}"
    assert made.client_options()["ssl_context"].check_hostname
    assert SECRET not in repr(made)


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL: must be one of PLAINTEXT, SSL, SASL_PLAINTEXT,"),
        (LOGIN | {"KAFKA_SASL_MECHANISM": ""}, "KAFKA_SASL_MECHANISM: has to be set where KAFKA_SECURITY_PROTOCOL is"),
        (LOGIN | {"KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM: must be one of PLAIN, SCRAM-SHA-256,"),
        (LOGIN | {"KAFKA_SASL_USERNAME": ""}, "KAFKA_SASL_USERNAME: has to be set where KAFKA_SECURITY_PROTOCOL is"),
        (LOGIN | {"KAFKA_SASL_PASSWORD": ""}, "KAFKA_SASL_PASSWORD: has to be set where KAFKA_SECURITY_PROTOCOL is"),
        (LOGIN | {"KAFKA_SASL_PASSWORD": f"{SECRET}\nx"}, "KAFKA_SASL_PASSWORD: has a character in it that is not"),
        (
            LOGIN | IN_TLS,
            "KAFKA_SASL_MECHANISM: is set, and KAFKA_SECURITY_PROTOCOL=SSL logs in to no broker: SASL_SSL",
        ),
        (
            {"KAFKA_SASL_PASSWORD": SECRET},
            "KAFKA_SASL_PASSWORD: is set, and KAFKA_SECURITY_PROTOCOL=PLAINTEXT logs in to no broker",
        ),
        (
            {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}/ca.pem"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: is set, and KAFKA_SECURITY_PROTOCOL=PLAINTEXT has no TLS",
        ),
        (
            {"KAFKA_SSL_KEYSTORE_LOCATION": "{files}/both.pem"},
            "KAFKA_SSL_KEYSTORE_LOCATION: is set, and KAFKA_SECURITY_PROTOCOL=PLAINTEXT has no TLS",
        ),
        (
            IN_TLS | {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}/none.pem"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: {files}/none.pem cannot be read: No such file or directory",
        ),
        (
            IN_TLS | {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: {files} cannot be read: Is a directory",
        ),
        (
            IN_TLS | {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}/store.jks"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: {files}/store.jks is a JKS store, and Segue reads PEM",
        ),
        (
            IN_TLS | {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}/store.p12"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: {files}/store.p12 is a PKCS #12 store, and Segue reads PEM",
        ),
        (
            IN_TLS | {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}/empty.pem"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: {files}/empty.pem is not in PEM format",
        ),
        (
            IN_TLS | {"KAFKA_SSL_TRUSTSTORE_LOCATION": "{files}/broken.pem"},
            "KAFKA_SSL_TRUSTSTORE_LOCATION: {files}/broken.pem holds no certificate of an authority",
        ),
        (
            IN_TLS | {"KAFKA_SSL_KEY_LOCATION": "{files}/me.key"},
            "KAFKA_SSL_KEYSTORE_LOCATION: has to be set where KAFKA_SSL_KEY_LOCATION is",
        ),
        (
            IN_TLS | {"KAFKA_SSL_KEY_PASSWORD": SECRET},
            "KAFKA_SSL_KEYSTORE_LOCATION: has to be set where KAFKA_SSL_KEY_PASSWORD is",
        ),
        (
            IN_TLS | {"KAFKA_SSL_KEYSTORE_LOCATION": "{files}/me.pem"},
            "KAFKA_SSL_KEYSTORE_LOCATION: {files}/me.pem has no private key in it: KAFKA_SSL_KEY_LOCATION names",
        ),
        (
            IN_TLS | {"KAFKA_SSL_KEYSTORE_LOCATION": "{files}/me.key", "KAFKA_SSL_KEY_LOCATION": "{files}/me.key"},
            "KAFKA_SSL_KEYSTORE_LOCATION: {files}/me.key has no certificate in it",
        ),
        (
            IN_TLS | {"KAFKA_SSL_KEYSTORE_LOCATION": "{files}/me.pem", "KAFKA_SSL_KEY_LOCATION": "{files}/other.key"},
            "KAFKA_SSL_KEYSTORE_LOCATION: the key in {files}/other.key does not belong to the certificate in",
        ),
        (
            IN_TLS
            | {"KAFKA_SSL_KEYSTORE_LOCATION": "{files}/locked.pem", "KAFKA_SSL_KEY_LOCATION": "{files}/locked.key"},
            "KAFKA_SSL_KEYSTORE_LOCATION: {files}/locked.key holds an encrypted key: set KAFKA_SSL_KEY_PASSWORD",
        ),
        (
            IN_TLS
            | {
                "KAFKA_SSL_KEYSTORE_LOCATION": "{files}/locked.pem",
                "KAFKA_SSL_KEY_LOCATION": "{files}/locked.key",
                "KAFKA_SSL_KEY_PASSWORD": f"not {SECRET}",
            },
            "KAFKA_SSL_KEYSTORE_LOCATION: KAFKA_SSL_KEY_PASSWORD does not open the key in {files}/locked.key",
        ),
        (
            IN_TLS | {"KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "off"},
            "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM: must be https or none",
        ),
        ({"SEGUE_TOPIC_PREFIX": "stag ing"}, "SEGUE_TOPIC_PREFIX: may have ASCII letters, digits, '.', '_' and '-'"),
        ({"SEGUE_TOPIC_PREFIX": "a" * 240}, "SEGUE_TOPIC_PREFIX: String should have at most"),
        ({"SEGUE_TOPIC_PARTITIONS": "0"}, "SEGUE_TOPIC_PARTITIONS: Input should be greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_one_line_that_names_one(files: Path, environ: dict[str, str], told: str) -> None:
    given = {name: value.replace("{files}", str(files)) for name, value in environ.items()}
    with pytest.raises(WrongSettings, match=f"^{re.escape(told.replace('{files}', str(files)))}") as raised:
        cluster(given)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_allowed_and_unsafe_is_noted() -> None:
    def notes(environ: dict[str, str]) -> tuple[str, ...]:
        return settings_of(KafkaSettings, SERVERS | environ).kafka_notes

    assert notes({}) == notes(LOGIN) == ()
    in_plain_text = LOGIN | {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
    assert notes(in_plain_text) == (), "SCRAM does not send the password"
    (note,) = notes(in_plain_text | {"KAFKA_SASL_MECHANISM": "PLAIN"})
    assert note.startswith("KAFKA_SECURITY_PROTOCOL: the password is sent in plain text")
    (note,) = notes(LOGIN | {"KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "none"})
    assert note.startswith("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM: none lets any host")
