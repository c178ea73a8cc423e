"""A Kafka cluster as one value: where it is, how to log in and to trust it, and the names that Segue has on it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from contracts.topics import TopicNames

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class KeyIsEncrypted(ValueError):
    """A private key is encrypted, and no password was given."""


@dataclass(frozen=True, slots=True)
class Login:
    """A login by SASL."""

    mechanism: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS of the connections. All files are PEM."""

    truststore: Path | None = None
    """The certificate authorities; None: those of the system."""
    keystore: Path | None = None
    """The client's certificate with its chain; None: it has none."""
    key: Path | None = None
    """The client's private key; None: it is in `keystore`."""
    key_password: str | None = field(default=None, repr=False)
    verify_host: bool = True

    def context(self) -> ssl.SSLContext:
        """The context, from the files as they are now. Raises OSError, ssl.SSLError and KeyIsEncrypted."""
        context = ssl.create_default_context(cafile=self.truststore)
        context.check_hostname = self.verify_host
        if self.keystore is not None:
            context.load_cert_chain(self.keystore, self.key, password=self._password)
        return context

    def _password(self) -> str:
        # Called for an encrypted key only. Without it OpenSSL would ask at the terminal.
        if self.key_password is None:
            raise KeyIsEncrypted("the key is encrypted")
        return self.key_password

    @property
    def subject(self) -> str | None:
        """The subject of the client's certificate, as Kafka's default principal has it; None if there is none."""
        from cryptography import x509  # It takes long to import, and only errors and logs name the principal.

        if self.keystore is None:
            return None
        try:
            return x509.load_pem_x509_certificates(self.keystore.read_bytes())[0].subject.rfc4514_string()
        except (OSError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """How to reach a cluster, and the names of Segue's topics and groups on it."""

    servers: str
    """host:port of one broker or several, separated by commas."""
    login: Login | None = None
    tls: Tls | None = None
    names: TopicNames = field(default_factory=TopicNames)

    def __str__(self) -> str:
        """The addresses, with the protocol and the principal if it is not plain text; without secrets."""
        if self.protocol == "PLAINTEXT":
            return self.servers
        how = f"{self.protocol}, {self.login.mechanism}" if self.login else self.protocol
        return f"{self.servers} ({how}, {self.principal})"

    @property
    def addresses(self) -> list[str]:
        """The addresses of the brokers, one by one."""
        return self.servers.split(",")

    @property
    def protocol(self) -> str:
        """The security protocol, by Kafka's name."""
        carried = "PLAINTEXT" if self.tls is None else "SSL"
        return carried if self.login is None else f"SASL_{carried}"

    @property
    def setting(self) -> str:
        """The setting that decides who this client is, or else the cluster's address."""
        if self.login is not None:
            return "KAFKA_SASL_USERNAME"
        return "KAFKA_SSL_KEYSTORE_LOCATION" if self.tls is not None else "KAFKA_BOOTSTRAP_SERVERS"

    @property
    def principal(self) -> str:
        """Whom the brokers take this client for, unless they map principals to other names."""
        if self.login is not None:
            return f"User:{self.login.username}"
        subject = self.tls.subject if self.tls is not None else None
        return f"User:{subject or 'ANONYMOUS'}"

    def client_options(self) -> dict[str, Any]:
        """The options of a client of aiokafka. Raises what `Tls.context` raises."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.addresses,
            "security_protocol": self.protocol,
            "ssl_context": None if self.tls is None else self.tls.context(),
        }
        if self.login is not None:
            options |= {
                "sasl_mechanism": self.login.mechanism,
                "sasl_plain_username": self.login.username,
                "sasl_plain_password": self.login.password,
            }
        return options
