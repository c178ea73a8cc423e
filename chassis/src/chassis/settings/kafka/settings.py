"""The settings with which every service reaches Kafka, named as the Java client's properties are.

The login has settings of its own in the place of `sasl.jaas.config`: that property is a line of Java's syntax which
names a class, and with these mechanisms it says nothing more than a user and a password.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.settings.kafka.cluster import MECHANISMS, KafkaCluster, KeyIsEncrypted, Login, Tls
from chassis.settings.types import KafkaServers
from contracts.topics import PARTITIONS, TOPICS, TopicNames

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_LONGEST_NAME: Final = 249
_LONGEST_PREFIX: Final = _LONGEST_NAME - max(len(topic.name) for topic in TOPICS)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]*")
"""Kafka's rule for the names of topics."""
_BINARY_STORES: Final = {b"\xfe\xed\xfe\xed": "JKS", b"\xce\xce\xce\xce": "JCEKS", b"\x30\x82": "PKCS #12"}
"""The first bytes of the stores that the Java client reads by default."""


class KafkaSettings(BaseSettings):
    """The cluster, the login, the TLS, and the names of the topics."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap_servers: KafkaServers = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS", min_length=1, description="host:port of one broker or several."
    )
    # The order is that of the validation: each of these is checked against those before it.
    kafka_security_protocol: str = Field(
        default="PLAINTEXT",
        validation_alias="KAFKA_SECURITY_PROTOCOL",
        description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    )
    kafka_sasl_mechanism: str | None = Field(
        default=None,
        validation_alias="KAFKA_SASL_MECHANISM",
        validate_default=True,
        description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    )
    kafka_sasl_username: str | None = Field(
        default=None, validation_alias="KAFKA_SASL_USERNAME", validate_default=True, description="Who logs in to Kafka."
    )
    kafka_sasl_password: SecretStr | None = Field(
        default=None, validation_alias="KAFKA_SASL_PASSWORD", validate_default=True, description="Its password."
    )
    kafka_ssl_truststore_location: Path | None = Field(
        default=None,
        validation_alias="KAFKA_SSL_TRUSTSTORE_LOCATION",
        description="A PEM file with the authorities of the brokers' certificates; unset: those of the system.",
    )
    kafka_ssl_key_password: SecretStr | None = Field(
        default=None, validation_alias="KAFKA_SSL_KEY_PASSWORD", description="What the private key is encrypted with."
    )
    kafka_ssl_key_location: Path | None = Field(
        default=None,
        validation_alias="KAFKA_SSL_KEY_LOCATION",
        description="A PEM file with the client's private key; unset: it is in KAFKA_SSL_KEYSTORE_LOCATION.",
    )
    kafka_ssl_keystore_location: Path | None = Field(
        default=None,
        validation_alias="KAFKA_SSL_KEYSTORE_LOCATION",
        validate_default=True,
        description="A PEM file with the client's certificate.",
    )
    kafka_ssl_endpoint_identification_algorithm: str = Field(
        default="https",
        validation_alias="KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM",
        description="none: a broker's certificate may name another host.",
    )
    kafka_session_timeout_s: float = Field(
        default=8,
        gt=1,
        le=300,
        validation_alias="SEGUE_KAFKA_SESSION_TIMEOUT_S",
        description="Seconds without a heartbeat after which Kafka gives a consumer's partitions to another.",
    )
    kafka_fetch_wait_ms: int = Field(
        default=500,
        ge=1,
        le=10_000,
        validation_alias="SEGUE_KAFKA_FETCH_WAIT_MS",
        description="How long a broker may hold an empty fetch. The log sink waits up to 100 ms for more records.",
    )
    topic_prefix: str = Field(
        default="",
        max_length=_LONGEST_PREFIX,
        validation_alias="SEGUE_TOPIC_PREFIX",
        description="Before the names of all topics and consumer groups, as in staging.",
    )
    topic_partitions: int = Field(
        default=PARTITIONS,
        ge=1,
        le=10_000,
        validation_alias="SEGUE_TOPIC_PARTITIONS",
        description="The partitions of each topic.",
    )

    @property
    def kafka(self) -> KafkaCluster:
        """The cluster that the settings name."""
        protocol, login, tls = self.kafka_security_protocol, None, None
        if protocol.startswith("SASL_"):
            password = self.kafka_sasl_password or SecretStr("")
            login = Login(self.kafka_sasl_mechanism or "", self.kafka_sasl_username or "", password.get_secret_value())
        if protocol.endswith("SSL"):
            tls = Tls(
                truststore=self.kafka_ssl_truststore_location,
                keystore=self.kafka_ssl_keystore_location,
                key=self.kafka_ssl_key_location,
                key_password=_plain(self.kafka_ssl_key_password),
                verify_host=self.kafka_ssl_endpoint_identification_algorithm == "https",
            )
        names = TopicNames(self.topic_prefix, self.topic_partitions)
        return KafkaCluster(self.kafka_bootstrap_servers, login, tls, names)

    @property
    def kafka_notes(self) -> tuple[str, ...]:
        """Messages about settings that are allowed and unsafe."""
        found = []
        if self.kafka_security_protocol == "SASL_PLAINTEXT" and self.kafka_sasl_mechanism == "PLAIN":
            found.append("KAFKA_SECURITY_PROTOCOL: the password is sent in plain text; SASL_SSL encrypts it")
        if self.kafka.tls is not None and not self.kafka.tls.verify_host:
            found.append(
                "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM: none lets any host with a trusted certificate be a broker"
            )
        return tuple(found)

    @field_validator("topic_prefix")
    @classmethod
    def _is_part_of_a_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("may have ASCII letters, digits, '.', '_' and '-' in it, as Kafka's names do")
        return value

    @field_validator("kafka_security_protocol")
    @classmethod
    def _known_protocol(cls, value: str) -> str:
        if value.upper() not in PROTOCOLS:
            raise ValueError(f"must be one of {', '.join(PROTOCOLS)}")
        return value.upper()

    @field_validator("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
    @classmethod
    def _goes_with_a_login(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        protocol = info.data.get("kafka_security_protocol")
        if protocol is not None:
            _require_together(value, protocol, logs_in=protocol.startswith("SASL_"))
        return value

    @field_validator("kafka_sasl_mechanism")
    @classmethod
    def _known_mechanism(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in MECHANISMS:
            raise ValueError(f"must be one of {', '.join(MECHANISMS)}: Segue has no other")
        return value if value is None else value.upper()

    @field_validator("kafka_sasl_username", "kafka_sasl_password")
    @classmethod
    def _is_text(cls, value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
        if not text.isprintable():
            raise ValueError("has a character in it that is not printable: copy it again, without that")
        return value

    @field_validator("kafka_ssl_truststore_location", "kafka_ssl_key_password", "kafka_ssl_key_location")
    @classmethod
    def _goes_with_tls(cls, value: Path | SecretStr | None, info: ValidationInfo) -> Path | SecretStr | None:
        protocol = info.data.get("kafka_security_protocol")
        if value is not None and protocol is not None and not protocol.endswith("SSL"):
            raise ValueError(f"is set, and KAFKA_SECURITY_PROTOCOL={protocol} has no TLS: SSL or SASL_SSL has")
        return value

    @field_validator("kafka_ssl_truststore_location")
    @classmethod
    def _holds_authorities(cls, value: Path | None) -> Path | None:
        if value is not None:
            _require_pem(value)
            try:
                Tls(truststore=value).context()
            except (OSError, ssl.SSLError):
                raise ValueError(f"{value} holds no certificate of an authority") from None
        return value

    @field_validator("kafka_ssl_key_location")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            _require_pem(value)
        return value

    @field_validator("kafka_ssl_keystore_location")
    @classmethod
    def _holds_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        key, password = info.data.get("kafka_ssl_key_location"), info.data.get("kafka_ssl_key_password")
        if value is None:
            if key is not None or password is not None:
                other = "KAFKA_SSL_KEY_LOCATION" if key is not None else "KAFKA_SSL_KEY_PASSWORD"
                raise ValueError(f"has to be set where {other} is: it holds the certificate")
            return None
        cls._goes_with_tls(value, info)
        _require_pem(value)
        try:
            Tls(keystore=value, key=key, key_password=_plain(password)).context()
        except KeyIsEncrypted:
            raise ValueError(f"{key or value} holds an encrypted key: set KAFKA_SSL_KEY_PASSWORD") from None
        except (OSError, ssl.SSLError) as error:
            raise ValueError(_pair_fault(value, key, password, error)) from None
        return value

    @field_validator("kafka_ssl_endpoint_identification_algorithm")
    @classmethod
    def _known_algorithm(cls, value: str) -> str:
        if value.lower() not in ("https", "none"):
            raise ValueError("must be https or none")
        return value.lower()


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _require_together(value: object, protocol: str, *, logs_in: bool) -> None:
    if logs_in and value is None:
        raise ValueError(f"has to be set where KAFKA_SECURITY_PROTOCOL is {protocol}")
    if value is not None and not logs_in:
        better = "SASL_SSL" if protocol == "SSL" else "SASL_SSL or SASL_PLAINTEXT"
        raise ValueError(f"is set, and KAFKA_SECURITY_PROTOCOL={protocol} logs in to no broker: {better} does")


def _require_pem(path: Path) -> None:
    """Raises ValueError, with a message for the operator, unless it is a PEM file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    for start, store in _BINARY_STORES.items():
        if content.startswith(start):
            raise ValueError(f"{path} is a {store} store, and Segue reads PEM: `openssl` or `keytool` converts it")
    if b"-----BEGIN " not in content:
        raise ValueError(f"{path} is not in PEM format: it has no BEGIN line")


def _pair_fault(keystore: Path, key: Path | None, password: object, error: OSError) -> str:
    reason = getattr(error, "reason", None) or ""
    if "KEY_VALUES_MISMATCH" in reason:
        return f"the key in {key or keystore} does not belong to the certificate in {keystore}"
    if b"PRIVATE KEY-----" not in (key or keystore).read_bytes():
        return f"{key or keystore} has no private key in it: KAFKA_SSL_KEY_LOCATION names the file that has"
    if b"BEGIN CERTIFICATE-----" not in keystore.read_bytes():
        return f"{keystore} has no certificate in it"
    if password is not None:
        return f"KAFKA_SSL_KEY_PASSWORD does not open the key in {key or keystore}"
    return f"{keystore} cannot be used: {reason or error}"
