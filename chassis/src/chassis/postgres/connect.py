"""Connecting to PostgreSQL: the hosts are tried in order, and permanent errors name the remedy in one line."""

from __future__ import annotations

import random
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import asyncpg

from chassis.errors import CannotStart
from chassis.settings.database.parameters import BadDatabaseUrl
from chassis.settings.database.url import DatabaseUrl, Host, read_database_url
from contracts.text import escaped_line

NEXT_HOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
)
"""Errors that concern one host only (unavailable, full, starting, read-only); the next host is tried."""

_TEMPORARY_TLS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_POOLER_PERMANENT: Final = (
    "unsupported startup parameter",
    "no such database",
    "no such user",
    "does not exist",
    "authentication failed",
)
"""Texts of PgBouncer's permanent errors; it uses the same SQLSTATE for all errors."""

_REMEDIES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (asyncpg.InvalidPasswordError, "correct the password"),
    (asyncpg.InvalidAuthorizationSpecificationError, "create the role, allow it in pg_hba.conf, or connect as another"),
    (asyncpg.InvalidCatalogNameError, "create the database, or name another one"),
    (asyncpg.InsufficientPrivilegeError, "grant it to the role, or connect as the owner"),
    (asyncpg.SyntaxOrAccessError, "correct its options"),
    (asyncpg.DataError, "correct its options"),
    (asyncpg.ObjectNotInPrerequisiteStateError, "correct its options"),
)


class CannotReach(OSError):
    """None of several hosts can be used; the message contains the error of each."""


def usable_url(url: str) -> DatabaseUrl:
    """Parse the URL. Raises CannotStart if it cannot be used."""
    try:
        return read_database_url(url)
    except BadDatabaseUrl as error:
        raise CannotStart(f"DATABASE_URL: {error}") from None


async def connect(url: DatabaseUrl, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
    """Connect to the first host that responds and, if there are several, accepts writes.

    With one host, raises its error; with several, the first permanent error, or CannotReach with the error of each.
    """
    hosts = _hosts_in_order(url)
    failures: list[Exception] = []
    for host in hosts:
        try:
            return await _connect_to(url, host, len(hosts) > 1, **more)
        except NEXT_HOST as error:
            if refusal(error) is not None:
                raise
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    errors = (f"{host}:{port}: {error_text(error)}" for (host, port), error in zip(hosts, failures, strict=True))
    raise CannotReach("; ".join(errors))


def refusal(error: Exception) -> CannotStart | None:
    """A permanent error as CannotStart with the setting and the remedy; None if the error may be temporary."""
    words = error_text(error)
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            return CannotStart(f"DATABASE_URL: {words}; {remedy}")
    if isinstance(error, asyncpg.ProtocolViolationError) and any(each in words for each in _POOLER_PERMANENT):
        return CannotStart(f"DATABASE_URL: the connection pooler reports: {words}")
    if isinstance(error, ssl.SSLError) and not isinstance(error, _TEMPORARY_TLS):
        return CannotStart(f"DATABASE_URL: TLS with the server failed: {words}; see sslmode, sslrootcert and sslcert")
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in words:
        return CannotStart("DATABASE_URL: the server does not support TLS, which sslmode requires")
    if isinstance(error, ValueError | KeyError) or (isinstance(error, asyncpg.InterfaceError) and "auth" in words):
        # The URL has been checked. The remaining causes are PG… variables, files and authentication methods.
        return CannotStart(f"DATABASE_URL, or a PG… variable: {words}")
    return None


def error_text(error: BaseException) -> str:
    """An error as one line; with its type, unless it is an error of PostgreSQL or CannotReach."""
    text = escaped_line(str(error))
    if isinstance(error, asyncpg.PostgresError | CannotReach):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _hosts_in_order(url: DatabaseUrl) -> Sequence[Host]:
    hosts = url.hosts or (("", 0),)
    return random.sample(hosts, len(hosts)) if url.parameters.shuffled else hosts


async def _connect_to(url: DatabaseUrl, host: Host, several: bool, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
    parameters = dict(url.parameters.passed_on)
    if several and parameters.get("target_session_attrs", "any") == "any":
        # A standby may respond first, but Segue needs to write.
        parameters["target_session_attrs"] = "read-write"
    if url.parameters.system_trust:
        more["ssl"] = _system_trust(parameters)
    dsn = "postgresql://?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    name, port = host
    more["server_settings"] = {**more.get("server_settings", {}), **url.parameters.startup}
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        dsn.rstrip("?"),
        host=name or None,
        port=port or None,
        user=url.user,
        password=url.password,
        database=url.database,
        timeout=url.parameters.connect_timeout_s,
        **more,
    )
    return connection


def _system_trust(parameters: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if certificate := parameters.pop("sslcert", None):
        password = parameters.pop("sslpassword", "")
        context.load_cert_chain(certificate, parameters.pop("sslkey", None), lambda: password)
    return context
