"""Parsing of database URLs in the formats of libpq, SQLAlchemy and database providers, by libpq's rules.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ServiceFileError
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from chassis.settings.database.parameters import BadDatabaseUrl, Parameters, read_parameters
from chassis.settings.header_values import named, stripped

PORT: Final = 5432
_WHERE: Final = ("host", "hostaddr", "port")
_SCHEME: Final = re.compile(r"(?:postgresql|postgres)(?:\+\w+)?://", re.IGNORECASE)
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_BRACKETED: Final = re.compile(r"\[([^\]]*)\](?::(\d*))?")

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A parsed database URL."""

    hosts: tuple[Host, ...]
    """Names, addresses or socket folders, each with a port; "" or no host at all stands for libpq's default."""
    user: str | None
    password: str | None
    database: str | None
    parameters: Parameters

    @property
    def name(self) -> str:
        """The database for logs: hosts, ports and name, without user and password."""
        hosts = self.hosts or (("", PORT),)
        places = (f"{f'[{host}]' if ':' in host else host or 'socket'}:{port}" for host, port in hosts)
        return f"{','.join(places)}{f'/{self.database}' if self.database else ''}"


def read_database_url(url: str, environ: Mapping[str, str] = os.environ) -> DatabaseUrl:
    """Parse a URL; `environ` may name a service file. Raises BadDatabaseUrl, which quotes no password."""
    url = stripped(url)
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise BadDatabaseUrl("must start with postgresql://")
    _require_no_blanks(url)
    if _BROKEN_ESCAPE.search(url):
        raise BadDatabaseUrl("has a '%' that begins no escape: within a user, password or name, % itself is %25")
    rest = url[scheme.end() :]
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    path, _, query = rest[len(authority) :].partition("?")
    _require_whole_password(authority, path, query)
    given = _query(query)
    login, _, places = authority.rpartition("@")
    user_part, _, secret = login.partition(":")
    values = _service(given.pop("service", None), given.pop("servicefile", None), environ)
    if places:
        values = {name: value for name, value in values.items() if name not in _WHERE}
    values |= _present(user=_text(user_part), password=_text(secret), dbname=_text(path[1:])) | given
    if "database" in values:
        values["dbname"] = values.pop("database")
    hosts = _with_host_parameters(values, _hosts(places) if places else ())
    user, password, name = (values.pop(each, None) for each in ("user", "password", "dbname"))
    return DatabaseUrl(hosts, user, password, name, read_parameters(values))


def _present(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _require_no_blanks(url: str) -> None:
    for position, char in enumerate(url, start=1):
        if char.isspace() or not char.isprintable():
            raise BadDatabaseUrl(
                f"has {named(char)} as character {position} of {len(url)}: take it out, or write it percent-encoded"
            )


def _require_whole_password(authority: str, path: str, query: str) -> None:
    """Raise BadDatabaseUrl if a password has an unescaped delimiter, so that its rest is not taken for a host."""
    if authority.count("@") > 1:
        raise BadDatabaseUrl("has more than one '@': those within the user or the password have to be written as %40")
    if "@" in path or ("@" not in authority and "@" in query and not _are_hosts(authority)):
        raise BadDatabaseUrl(
            "has an '@' after a '/' or '?': if they belong to the password, write / as %2F, ? as %3F and @ as %40"
        )


def _are_hosts(text: str) -> bool:
    try:
        _hosts(text)
    except BadDatabaseUrl:
        return False
    return True


def _query(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, is_there, value = part.partition("=")
        if not name and not value:
            continue
        if not is_there:
            raise BadDatabaseUrl("has something after the '?' that is not of the form name=value")
        if value:  # As in libpq, an empty value counts as unset.
            given[_text(name)] = _text(value)
    return given


def _text(part: str) -> str:
    try:
        text = unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise BadDatabaseUrl("has percent-escapes that are no UTF-8") from None
    if "\0" in text:
        raise BadDatabaseUrl("has %00 in it, which PostgreSQL cannot take")
    return text


def _hosts(places: str) -> tuple[Host, ...]:
    return tuple(_host(place) for place in places.split(","))


def _host(place: str) -> Host:
    if place.startswith("["):
        found = _BRACKETED.fullmatch(place)
        if found is None or not _is_v6(address := _text(found[1])):
            raise BadDatabaseUrl("has a '[' that begins no IPv6 address: they are written as [::1]:5432")
        return address, _port(found[2])
    if place.count(":") > 1:
        raise BadDatabaseUrl("has a host with more than one ':': an IPv6 address goes in brackets, as in [::1]:5432")
    host, _, port = place.partition(":")
    return _text(host), _port(port)


def _with_host_parameters(values: dict[str, str], hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """The hosts after the parameters `host`, `hostaddr` and `port`, which are removed from `values`."""
    names, addresses, ports = (values.pop(name, "") for name in _WHERE)
    if addresses and values.get("sslmode") == "verify-full":
        raise BadDatabaseUrl("hostaddr cannot be combined with sslmode=verify-full, which checks the host's name")
    if places := addresses or names:
        hosts = tuple((place.strip("[]"), PORT) for place in places.split(","))
    if not ports:
        return hosts
    hosts, each = hosts or (("", PORT),), [_port(port) for port in ports.split(",")]
    if len(each) not in (1, len(hosts)):
        raise BadDatabaseUrl(f"has {len(hosts)} hosts and {len(each)} ports: give one port, or one for each host")
    return tuple((host, each[n % len(each)]) for n, (host, _) in enumerate(hosts))


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str | None) -> int:
    if not text:
        return PORT
    if not text.isdecimal() or not text.isascii() or not 0 < int(text) < 65536:
        raise BadDatabaseUrl(
            "has a port that is no number from 1 to 65535; if it is a part of the password, look for a character"
            " there that has to be percent-encoded"
        )
    return int(text)


def _service(name: str | None, file: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a service, as libpq keeps them: https://www.postgresql.org/docs/current/libpq-pgservice.html."""
    if name is None:
        return {}
    path = Path(file or environ.get("PGSERVICEFILE") or "~/.pg_service.conf")
    found = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    try:
        path = path.expanduser()
        found.read_string(path.read_text("utf-8"))
    except RuntimeError:
        raise BadDatabaseUrl(f"service={name}: {path} is in a home directory that is not known here") from None
    except (OSError, UnicodeError, ServiceFileError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no service file"
        raise BadDatabaseUrl(f"service={name}: {path} cannot be read: {why}") from None
    if name not in found:
        raise BadDatabaseUrl(f"service={name}: {path} has no section of that name")
    return dict(found[name])
