"""A real Apache Kafka that denies by default: with TLS, logins, and an authorizer."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.patience import eventually, patient

from chassis.kafka.diagnosis import refusal
from chassis.settings.kafka.cluster import KafkaCluster
from chassis.settings.kafka.settings import KafkaSettings
from chassis.settings.service import settings_of
from contracts.access import Grant
from segue_cli.local.process import child, ready_with

LAUNCHER = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka.py"
KEY_PASSWORD = "opens-the-key"
PROPERTIES = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_toy="{password}";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
"""


def password_of(user: str) -> str:
    return f"secret-of-{user}"


class Authority:
    """A certificate authority, in files of a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self._signed(self._name, self._key, x509.BasicConstraints(True, 0))))

    def issue(self, name: str, *, password: str | None = None) -> tuple[Path, Path]:
        """The files of a certificate for 127.0.0.1 and of its key, which is encrypted if there is a password."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(_pem(self._signed(subject, key, address)))
        encryption = serialization.BestAvailableEncryption(password.encode()) if password else None
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                encryption or serialization.NoEncryption(),
            )
        )
        return certificate, key_file

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Secured:
    """A running broker: its listeners, its authority, and what an administrator does."""

    plain: str
    """The address in plain text, where everybody is the administrator."""
    sasl: str
    mtls: str
    authority: Authority
    _admin: AdminClient

    def login(self, user: str, mechanism: str = "SCRAM-SHA-512", **more: str) -> dict[str, str]:
        """The settings with which a user logs in."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.sasl,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": password_of(user),
            "KAFKA_SSL_TRUSTSTORE_LOCATION": str(self.authority.file),
            **more,
        }

    def certificate(self, name: str, *, key_password: str | None = None, **more: str) -> dict[str, str]:
        """The settings with which the owner of a certificate connects."""
        certificate, key = self.authority.issue(name, password=key_password)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.mtls,
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_TRUSTSTORE_LOCATION": str(self.authority.file),
            "KAFKA_SSL_KEYSTORE_LOCATION": str(certificate),
            "KAFKA_SSL_KEY_LOCATION": str(key),
            **({"KAFKA_SSL_KEY_PASSWORD": key_password} if key_password else {}),
            **more,
        }

    async def add_user(self, user: str) -> None:
        """Let a user log in with SCRAM-SHA-512; returns once the broker takes the login."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        added = UserScramCredentialUpsertion(user, info, password_of(user).encode())
        await _all_done(self._admin.alter_user_scram_credentials([added]))
        cluster = cluster_of(self.login(user))

        async def known() -> bool:
            return await refusal(cluster) is None

        await eventually(known)

    async def grant(self, principal: str, grants: Iterable[Grant]) -> None:
        """Allow the operations, and nothing else, to User:`principal`."""
        bindings = [_binding(principal, grant, operation) for grant in grants for operation in grant.operations]
        await _all_done(self._admin.create_acls(bindings))
        await self._until_known(principal, lambda known: set(bindings) <= known)

    async def revoke(self, principal: str, grant: Grant) -> None:
        """Take back what `grant` allowed."""
        filters = [
            AclBindingFilter(*_place(grant), f"User:{principal}", "*", _operation(operation), AclPermissionType.ALLOW)
            for operation in grant.operations
        ]
        await _all_done(self._admin.delete_acls(filters))
        gone = {_binding(principal, grant, operation) for operation in grant.operations}
        await self._until_known(principal, lambda known: not gone & known)

    async def _until_known(self, principal: str, holds: Callable[[set[AclBinding]], bool]) -> None:
        """Wait until the broker's own list of what the principal may do is as it has to be."""
        anything: Any = None
        resource = (ResourceType.ANY, anything, ResourcePatternType.ANY)
        every = AclBindingFilter(*resource, f"User:{principal}", anything, AclOperation.ANY, AclPermissionType.ANY)

        async def known() -> bool:
            return holds(set(await asyncio.wrap_future(self._admin.describe_acls(every))))

        await eventually(known)


def cluster_of(env: Mapping[str, str]) -> KafkaCluster:
    return settings_of(KafkaSettings, env).kafka


def _place(grant: Grant) -> tuple[Any, str, Any]:
    return getattr(ResourceType, grant.resource.upper()), grant.name, ResourcePatternType.LITERAL


def _binding(principal: str, grant: Grant, operation: str) -> AclBinding:
    return AclBinding(*_place(grant), f"User:{principal}", "*", _operation(operation), AclPermissionType.ALLOW)


def _operation(name: str) -> Any:
    return getattr(AclOperation, name.upper())


async def _all_done(futures: Mapping[Any, Any]) -> None:
    await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))


@asynccontextmanager
async def secured_kafka(folder: Path) -> AsyncIterator[Secured]:
    """A broker without topics, users and grants, but a user `toy` for PLAIN."""
    authority = Authority(folder)
    certificate, key = authority.issue("broker")
    certificate.write_bytes(key.read_bytes() + certificate.read_bytes())
    properties = folder / "server.properties"
    module = "org.apache.kafka.common.security"
    properties.write_text(PROPERTIES.format(folder=folder, module=module, password=password_of("toy")))
    argv = [sys.executable, str(LAUNCHER), "--listener", "SASL_SSL", "--listener", "SSL", "--properties"]
    async with child(
        [*argv, str(properties)],
        name="kafka",
        ready=ready_with("brokers"),
        ready_within_s=patient(120),
        death_signal=signal.SIGTERM,
    ) as launcher:
        (broker,) = launcher.ready["brokers"]
        ports = broker["listeners"]
        plain = launcher.ready["bootstrap_servers"]
        admin = AdminClient({"bootstrap.servers": plain, "log_level": 0})
        yield Secured(plain, f"127.0.0.1:{ports['SASL_SSL']}", f"127.0.0.1:{ports['SSL']}", authority, admin)
