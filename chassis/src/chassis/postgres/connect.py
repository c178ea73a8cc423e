"""Connecting to Postgres: each host in turn, and what kept us out, in one line that says what to do."""

from __future__ import annotations

import random
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import asyncpg

from chassis.errors import CannotStart
from chassis.settings.database_parameters import BadDatabaseUrl
from chassis.settings.database_url import DatabaseUrl, Host, read_database_url
from contracts.text import escaped_line

NEXT_HOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
)
"""What one host can say without speaking for the others: it is away, full, starting, or takes no writes."""

_PASSING_TLS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_POOLER_REFUSALS: Final = (
    "unsupported startup parameter",
    "no such database",
    "no such user",
    "does not exist",
    "authentication failed",
)
"""What PgBouncer says for good, under the SQLSTATE that it has for everything."""

_REMEDIES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (asyncpg.InvalidPasswordError, "correct the password"),
    (asyncpg.InvalidAuthorizationSpecificationError, "create the role, or let it in by pg_hba.conf, or ask as another"),
    (asyncpg.InvalidCatalogNameError, "create the database, or name another one"),
    (asyncpg.InsufficientPrivilegeError, "grant it to the role, or connect as the owner"),
    (asyncpg.SyntaxOrAccessError, "correct its options"),
    (asyncpg.DataError, "correct its options"),
    (asyncpg.ObjectNotInPrerequisiteStateError, "correct its options"),
)


class CannotReach(OSError):
    """None of several hosts could be used; the message has what each of them said."""


def usable_url(url: str) -> DatabaseUrl:
    """The URL taken apart. Raises CannotStart where it cannot be used."""
    try:
        return read_database_url(url)
    except BadDatabaseUrl as error:
        raise CannotStart(f"DATABASE_URL: {error}") from None


async def connect(url: DatabaseUrl, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
    """Connect to the first host that answers and, where there are several, takes writes.

    Raises what the only host raised; of several, CannotReach with what each said, unless one refused for all of them.
    """
    hosts = _in_turn(url)
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
    told = (f"{host}:{port}: {said(error)}" for (host, port), error in zip(hosts, failures, strict=True))
    raise CannotReach("; ".join(told))


def refusal(error: Exception) -> CannotStart | None:
    """What `error` means where it is for good, naming the setting and the remedy; None: it may pass."""
    words = said(error)
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind):
            return CannotStart(f"DATABASE_URL: {words}; {remedy}")
    if isinstance(error, asyncpg.ProtocolViolationError) and any(each in words for each in _POOLER_REFUSALS):
        return CannotStart(f"DATABASE_URL: the connection pooler says: {words}")
    if isinstance(error, ssl.SSLError) and not isinstance(error, _PASSING_TLS):
        return CannotStart(f"DATABASE_URL: TLS with the server failed: {words}; see sslmode, sslrootcert and sslcert")
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in words:
        return CannotStart("DATABASE_URL: the server does not speak TLS, which sslmode asks for")
    if isinstance(error, ValueError | KeyError) or (isinstance(error, asyncpg.InterfaceError) and "auth" in words):
        # Our own part of it was checked: what is left are PG… variables, files, and ways to log in.
        return CannotStart(f"DATABASE_URL, or a PG… variable: {words}")
    return None


def said(error: BaseException) -> str:
    """An error in one line, without the type where its text tells enough."""
    text = escaped_line(str(error))
    if isinstance(error, asyncpg.PostgresError | CannotReach):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _in_turn(url: DatabaseUrl) -> Sequence[Host]:
    hosts = url.hosts or (("", 0),)
    return random.sample(hosts, len(hosts)) if url.parameters.shuffled else hosts


async def _connect_to(url: DatabaseUrl, host: Host, several: bool, **more: Any) -> asyncpg.Connection[asyncpg.Record]:
    told = dict(url.parameters.passed_on)
    if several and told.get("target_session_attrs", "any") == "any":
        # A standby may answer first, and Segue has to write.
        told["target_session_attrs"] = "read-write"
    if url.parameters.system_trust:
        more["ssl"] = _system_trust(told)
    dsn = "postgresql://?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in told.items())
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


def _system_trust(told: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if certificate := told.pop("sslcert", None):
        password = told.pop("sslpassword", "")
        context.load_cert_chain(certificate, told.pop("sslkey", None), lambda: password)
    return context
