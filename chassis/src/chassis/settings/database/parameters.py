"""The parameters of a database URL: those of libpq that asyncpg supports, and the treatment of the others.

A parameter that protects the connection is never ignored: if asyncpg does not support it, it is rejected. libpq's list:
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


class BadDatabaseUrl(ValueError):
    """A URL that cannot be used; the message gives the reason and quotes no part that may be a password."""


SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
WRITABLE: Final = ("any", "primary", "read-write")
OURS: Final = ("search_path", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "timezone")
"""Settings of the server that each service sets itself."""
LONGEST_CONNECT_S: Final = 30.0
_CONNECT_S: Final = 10.0
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_FALSE: Final = ("0", "off", "no", "false")

# fmt: off
_PASSED_ON: Final = {
    "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "sslnegotiation", "passfile", "krbsrvname", "gsslib", "target_session_attrs",
}
_NOTED: Final = {
    # libpq's parameters that tune or name a connection; they protect nothing.
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslcompression",
    "sslsni", "sslkeylogfile", "gssdelegation",
    # Parameters of other frameworks; each service has its own schema and pool.
    "schema", "currentSchema", "connection_limit", "pool_timeout", "pool_size", "max_overflow", "socket_timeout",
    "command_timeout",
}
_REFUSED: Final = {
    "require_auth", "requirepeer", "sslcrldir", "scram_client_key", "scram_server_key", "oauth_issuer",
    "oauth_client_id", "oauth_client_secret", "oauth_scope",
}
# fmt: on
_CHOICES: Final = {
    "sslmode": SSL_MODES,
    "ssl_min_protocol_version": TLS_VERSIONS,
    "ssl_max_protocol_version": TLS_VERSIONS,
    "sslnegotiation": ("postgres", "direct"),
    "gsslib": ("gssapi",),
    "load_balance_hosts": ("disable", "random"),
}
_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")

_ONLY: Final = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "sslcertmode": ("allow",),
    "replication": _FALSE,
    "min_protocol_version": ("3.0",),
    "max_protocol_version": ("3.0", "3.2", "latest"),
}
"""Parameters of which asyncpg supports these values only."""


@dataclass(slots=True)
class Parameters:
    """The parsed parameters of a URL."""

    passed_on: dict[str, str] = field(default_factory=dict)
    """Parameters that asyncpg takes, by libpq's names."""
    settings: dict[str, str] = field(default_factory=dict)
    """Run-time settings of the server, which can be set at any time."""
    startup: dict[str, str] = field(default_factory=dict)
    """Parameters that can be set only at the start of a connection."""
    connect_timeout_s: float = _CONNECT_S
    shuffled: bool = False
    pooler: bool | None = None
    """Whether a connection pooler is in between, which gives each transaction another server; None: to be found out."""
    system_trust: bool = False
    """Trust the system's certificate authorities."""
    notes: list[str] = field(default_factory=list)


def read_parameters(given: dict[str, str]) -> Parameters:
    """Parse the parameters other than hosts, user and database. Raises BadDatabaseUrl."""
    parameters = Parameters()
    for name, value in _without_synonyms(given).items():
        _take(parameters, name, value)
    _check_tls(parameters)
    for name in _FILES:
        if path := parameters.passed_on.get(name):
            _require_file(name, path)
    return parameters


def _without_synonyms(given: dict[str, str]) -> dict[str, str]:
    found = dict(given)
    # libpq accepts ssl=true as in JDBC URLs; SQLAlchemy passes ssl=MODE to asyncpg; requiressl is libpq's old name.
    for name, truth in (("ssl", ("true", "1")), ("requiressl", ("1",))):
        if (value := found.pop(name, "").lower()) and value not in _FALSE:
            if value not in (*truth, *SSL_MODES):
                raise BadDatabaseUrl(f"{name} must be true, false or one of {', '.join(SSL_MODES)}")
            found.setdefault("sslmode", "require" if value in truth else value)
    # SQLAlchemy's URLs indicate a pooler in this way.
    sizes = [found.pop(name, None) for name in ("statement_cache_size", "prepared_statement_cache_size")]
    if "0" in sizes:
        found.setdefault("pgbouncer", "true")
    return found


def _take(parameters: Parameters, name: str, value: str) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise BadDatabaseUrl(f"{name} must be one of {', '.join(_CHOICES[name])}")
    if name in _PASSED_ON:
        parameters.passed_on[name] = value
    elif name == "connect_timeout":
        parameters.connect_timeout_s = _seconds(value)
    elif name == "application_name":
        parameters.startup[name] = value
    elif name == "options":
        if (settings := _settings_in(value)) is None:
            parameters.startup[name] = value
        else:
            kept = {each: settings[each] for each in settings if each.lower() not in OURS}
            parameters.notes += [f"{each} in options is ignored: Segue sets its own" for each in settings.keys() - kept]
            parameters.settings |= kept
    elif name == "load_balance_hosts":
        parameters.shuffled = value == "random"
    elif name == "pgbouncer":
        parameters.pooler = _truth(name, value)
    else:
        _reject_or_note(parameters, name, value)


def _reject_or_note(parameters: Parameters, name: str, value: str) -> None:
    if name in _REFUSED or (name in _ONLY and value not in _ONLY[name]):
        raise BadDatabaseUrl(
            f"{name}={value[:40] if name in _ONLY else '…'} cannot be honoured by the driver (asyncpg), and connecting"
            " without it may be unsafe: take it out, and use sslmode=verify-full with sslrootcert to know the server"
        )
    if name == "client_encoding" and value.lower() not in ("utf8", "utf-8", "auto", "unicode"):
        parameters.notes.append("client_encoding is ignored: Segue uses UTF-8")
    elif name in _NOTED:
        parameters.notes.append(f"{name} is ignored: the driver (asyncpg) has nothing like it")
    elif name not in _ONLY and name not in ("client_encoding", "fallback_application_name"):
        raise BadDatabaseUrl(
            f"{_shown(name)} is no parameter of libpq; the server's settings go in options=-c%20name%3Dvalue"
        )


def _check_tls(parameters: Parameters) -> None:
    passed_on = parameters.passed_on
    if passed_on.get("sslrootcert") == "system":
        # As in libpq, it excludes weaker modes.
        if passed_on.get("sslmode", "verify-full") != "verify-full":
            raise BadDatabaseUrl("sslrootcert=system needs sslmode=verify-full")
        if "sslcrl" in passed_on:
            raise BadDatabaseUrl("sslrootcert=system cannot be combined with sslcrl")
        parameters.system_trust = True
        del passed_on["sslrootcert"]
        passed_on.pop("sslmode", None)
    if "sslkey" in passed_on and "sslcert" not in passed_on:
        raise BadDatabaseUrl("sslkey needs sslcert, the certificate that it belongs to")
    if passed_on.get("target_session_attrs", "any") not in WRITABLE:
        raise BadDatabaseUrl(f"target_session_attrs must be one of {', '.join(WRITABLE)}: Segue has to write")
    is_encrypted = parameters.system_trust or passed_on.get("sslmode") in SSL_MODES[3:]
    if passed_on.get("sslnegotiation") == "direct" and not is_encrypted:
        raise BadDatabaseUrl("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")


def _require_file(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise BadDatabaseUrl(f"{name}: {path} cannot be read: {error.strerror}") from None
    if name == "passfile" and mode & 0o077:
        raise BadDatabaseUrl(f"passfile: {path} is open to others, and is not read for that: chmod 600 {path}")


def _seconds(value: str) -> float:
    try:
        seconds = int(value)
    except ValueError:
        raise BadDatabaseUrl("connect_timeout must be a whole number of seconds") from None
    # In libpq, 0 means no limit, and 2 s is the minimum.
    return min(max(seconds, 2), LONGEST_CONNECT_S) if seconds > 0 else _CONNECT_S


def _truth(name: str, value: str) -> bool:
    if value not in ("true", "1", "on", "yes", *_FALSE):
        raise BadDatabaseUrl(f"{name} must be true or false")
    return value not in _FALSE


def _settings_in(options: str) -> dict[str, str] | None:
    """The settings in `-c name=value --name=value …`; None if the text has another form.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
    """
    settings: dict[str, str] = {}
    words = _words(options)
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = f"-c{words.pop(0)}"
        name, is_there, value = word[2:].partition("=")
        if word[:2] not in ("-c", "--") or not is_there or not _NAME.fullmatch(name):
            return None
        settings[name.replace("-", "_")] = value
    return settings


def _words(text: str) -> list[str]:
    """The words of a text, separated by whitespace; a backslash escapes the next character."""
    words: list[str] = []
    word, escaped = "", False
    for char in text:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\":
            escaped = True
        elif char.isspace():
            words, word = [*words, word], ""
        else:
            word += char
    return [each for each in [*words, word] if each]


def _shown(name: str) -> str:
    """The name of a parameter for a message; hidden if it is no valid name, as it may be a part of a password."""
    return f"{name[:40]!r}" if name.replace("_", "").isalnum() and name.isascii() else "something after the '?'"
