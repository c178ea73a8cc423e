"""Why no broker of a cluster takes this client: found by one more connection to each of its addresses.

aiokafka reports every failed bootstrap with the same error, whether nothing listens, a certificate is not trusted or a
login is refused. The first of these may end by itself. The others are errors of settings, except that brokers which are
just starting may not know a user yet.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from chassis.errors import CannotStart
from chassis.kafka.refusals import NotPermitted
from chassis.settings.kafka.cluster import KafkaCluster

_LIMIT_S: Final = 3.0
_ADDRESS: Final = "KAFKA_BOOTSTRAP_SERVERS"
_PROTOCOL: Final = "KAFKA_SECURITY_PROTOCOL"
_TRUST: Final = "KAFKA_SSL_TRUSTSTORE_LOCATION"
_CERTIFICATE: Final = "KAFKA_SSL_KEYSTORE_LOCATION"
_WANTS_CERTIFICATE: Final = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")
_ANSWERS: Final = "it answers now"
_REFUSES_CERTIFICATE: Final = ("UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a broker does not take this client."""

    server: str
    what: str
    setting: str = _ADDRESS
    """The setting to correct."""
    refused: bool = False
    """The broker, or the check of its certificate, refused the connection: it does not help to try again."""
    login: bool = False
    """It is the login that was refused, which the broker may know later."""

    def __str__(self) -> str:
        return f"{self.server}: {self.what}"


class Refused(CannotStart):
    """No broker takes this client, and a setting has to be corrected; the message is one line that names it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.setting}: {fault}")


class LoginRefused(Refused, NotPermitted):
    """The brokers refuse the login."""


async def diagnose(cluster: KafkaCluster) -> str:
    """A message on each address of the cluster, for when none of them answers."""
    return "; ".join(map(str, await _faults(cluster)))


async def refusal(cluster: KafkaCluster) -> Refused | None:
    """The error if a broker refuses this client and no other address takes it; None if trying again may help."""
    faults = await _faults(cluster)
    if any(fault.what == _ANSWERS for fault in faults):
        return None
    return next((LoginRefused(fault) if fault.login else Refused(fault) for fault in faults if fault.refused), None)


async def _faults(cluster: KafkaCluster) -> list[Fault]:
    return list(await asyncio.gather(*(_fault(cluster, server) for server in cluster.addresses)))


async def _fault(cluster: KafkaCluster, server: str) -> Fault:
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(_LIMIT_S):
            in_tls = await _is_tls(host.strip("[]"), int(port))
            if in_tls and cluster.tls is None:
                other = "SASL_SSL" if cluster.login else "SSL, or to SASL_SSL with a login"
                return Fault(server, f"it uses TLS: set {_PROTOCOL} to {other}", _PROTOCOL, refused=True)
    except socket.gaierror as error:
        return Fault(server, f"the host name is not known ({error.strerror})")
    except TimeoutError:
        return Fault(server, "no answer: a firewall, or the wrong address")
    except (OSError, UnicodeError) as error:
        return Fault(server, "nothing listens there" if isinstance(error, ConnectionRefusedError) else str(error))
    if cluster.tls is not None and not in_tls:
        return Fault(server, f"the server there does not answer in TLS; {_PROTOCOL} has to suit the listener")
    try:
        async with asyncio.timeout(_LIMIT_S):
            await _ask(cluster, host.strip("[]"), int(port))
    except TimeoutError:
        return Fault(server, "the server there does not respond as a Kafka broker")
    except (KafkaError, OSError, AssertionError) as error:
        return _explained(cluster, server, error)
    return Fault(server, _ANSWERS)


async def _ask(cluster: KafkaCluster, host: str, port: int) -> None:
    """Connect, log in, and ask for metadata, which a listener that wants a login does not answer without one."""
    options = cluster.client_options()
    del options["bootstrap_servers"]
    connection = AIOKafkaConnection(host, port, request_timeout_ms=int(_LIMIT_S * 1000), **options)
    try:
        await connection.connect()
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


def _explained(cluster: KafkaCluster, server: str, error: BaseException) -> Fault:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _tls_fault(cluster, server, cause)
        if (fault := _login_fault(cluster, server, cause)) is not None:
            return fault
    if any(isinstance(cause, EOFError | ConnectionError | KafkaError) for cause in causes):
        return _closed(cluster, server)
    return Fault(server, str(error) or type(error).__name__)


def _login_fault(cluster: KafkaCluster, server: str, cause: BaseException) -> Fault | None:
    login = cluster.login
    if login is None:
        return None
    if isinstance(cause, UnsupportedSaslMechanismError):
        what = f"it does not take {login.mechanism}; its `sasl.enabled.mechanisms` lists what it takes"
        return Fault(server, what, "KAFKA_SASL_MECHANISM", refused=True)
    if isinstance(cause, IllegalSaslStateError):
        return Fault(server, f"it wants no login: {_PROTOCOL} without SASL_ suits it", _PROTOCOL, refused=True)
    if isinstance(cause, SaslAuthenticationFailed):
        what = (
            f"it refuses the login of {cluster.principal} with {login.mechanism}: correct KAFKA_SASL_USERNAME or"
            " KAFKA_SASL_PASSWORD, or create that user on the cluster"
        )
        return Fault(server, what, "KAFKA_SASL_PASSWORD", refused=True, login=True)
    return None


def _tls_fault(cluster: KafkaCluster, server: str, error: ssl.SSLError) -> Fault:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        if "ostname mismatch" in said or "IP address mismatch" in said:
            what = f"its certificate is for another host ({said}): use the name that is in it"
            return Fault(server, what, _ADDRESS, refused=True)
        where = (cluster.tls and cluster.tls.truststore) or "the system's store"
        what = f"its certificate is not trusted ({said}) by {where}: name the file of the authority that signed it"
        return Fault(server, what, _TRUST, refused=True)
    reason = error.reason or ""
    if any(each in reason for each in _REFUSES_CERTIFICATE):
        what = f"it refuses the certificate of {cluster.principal} ({reason.lower()})"
        return Fault(server, what, _CERTIFICATE, refused=True)
    if any(each in reason for each in _WANTS_CERTIFICATE):
        return Fault(server, "it asks for a client's certificate, and takes none of ours", _CERTIFICATE, refused=True)
    return Fault(server, f"no TLS connection ({reason or error})", _PROTOCOL)


def _closed(cluster: KafkaCluster, server: str) -> Fault:
    if cluster.login is None:
        what = f"it closes the connection; if it wants a login, set {_PROTOCOL} to SASL_SSL or SASL_PLAINTEXT"
    else:
        what = "it closes the connection"
    return Fault(server, what)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def _is_tls(host: str, port: int) -> bool:
    """Whether the server responds to a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Nothing is sent over it.
    _, plain = await asyncio.open_connection(host, port)
    try:
        with suppress(ConnectionError):
            await plain.start_tls(context, server_hostname=host, ssl_handshake_timeout=_LIMIT_S / 2)
            return True
    except ssl.SSLError as error:
        return error.reason != "WRONG_VERSION_NUMBER"  # A TLS alert is also a response in TLS.
    finally:
        plain.close()
    return False
