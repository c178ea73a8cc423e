"""Database URLs in all spellings: accepted as libpq does, or refused in one line that names the part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chassis.settings.database.parameters import BadDatabaseUrl
from chassis.settings.database.url import read_database_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "name", "user", "password"),
    [
        ("postgresql://me:hunter2@db:6000/segue", "db:6000/segue", "me", SECRET),
        ("postgres://me@db/segue", "db:5432/segue", "me", None),
        ("postgresql+asyncpg://me:hunter2@db/segue", "db:5432/segue", "me", SECRET),
        ("POSTGRESQL://db", "db:5432", None, None),
        ("postgresql://me:hunter2@h1:5433,h2,[::1]:5434/segue", "h1:5433,h2:5432,[::1]:5434/segue", "me", SECRET),
        ("postgresql://me@[fe80::1%25eth0]/segue", "[fe80::1%eth0]:5432/segue", "me", None),
        ("postgresql:///segue", "socket:5432/segue", None, None),
        ("postgresql://:6000/segue", "socket:6000/segue", None, None),
        ("postgresql:///segue?host=/var/run/postgresql&port=6000", "/var/run/postgresql:6000/segue", None, None),
        ("postgresql://%2Fvar%2Frun/segue", "/var/run:5432/segue", None, None),
        ("postgresql:///?host=h1,h2&port=1,2&user=me&password=hunter2&dbname=x", "h1:1,h2:2/x", "me", SECRET),
        ("postgresql://h/x?host=::1&port=7", "[::1]:7/x", None, None),
        ("postgresql://h/x?hostaddr=10.0.0.1&sslmode=require", "10.0.0.1:5432/x", None, None),
        ("postgresql://me:hun%40ter%2F%3F%25@db/a%20b", "db:5432/a b", "me", "hun@ter/?%"),
        ("postgresql://me%40server:a:b#c@db/x", "db:5432/x", "me@server", "a:b#c"),
        ("\ufeff postgresql://db/x\u200b\n", "db:5432/x", None, None),
    ],
)
def test_host_database_user_and_password(url: str, name: str, user: str | None, password: str | None) -> None:
    read = read_database_url(url)
    assert (read.name, read.user, read.password) == (name, user, password)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://me:hunter2@db/x", "must start with postgresql://"),
        ("jdbc:postgresql://db/x", "must start with postgresql://"),
        ("host=db password=hunter2", "must start with postgresql://"),
        ("postgresql://me:hunter2@x@db/x", "more than one '@': those within the user or the password"),
        ("postgresql://me:1/hunter2@db/x", "an '@' after a '/' or '?': if they belong to the password, write / as %2F"),
        ("postgresql://me:a?hunter2@db/x", "an '@' after a '/' or '?'"),
        ("postgresql://me:hunter2%@db/x", "a '%' that begins no escape"),
        ("postgresql://me:hunter2 @db/x", "has U+0020 SPACE as character 24 of 29"),
        ("postgresql://me:hunter2\u200b@db/x", "has U+200B ZERO WIDTH SPACE as character 24 of 29"),
        ("postgresql://me:%00@db/x", "%00"),
        ("postgresql://me:%ff@db/x", "no UTF-8"),
        ("postgresql://me:hunter2/x", "has a port that is no number from 1 to 65535"),
        ("postgresql://db:0/x", "has a port that is no number from 1 to 65535"),
        ("postgresql://me:hunter2@::1:5432/x", "an IPv6 address goes in brackets"),
        ("postgresql://me:hunter2@[nonsense]/x", "begins no IPv6 address"),
        ("postgresql:///x?host=a,b&port=1,2,3", "has 2 hosts and 3 ports"),
        ("postgresql://db/x?hunter2", "not of the form name=value"),
    ],
)
def test_an_invalid_url_is_reported_without_the_password(url: str, told: str) -> None:
    refused(url, told)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("channel_binding=require", "channel_binding=require cannot be honoured"),
        ("gssencmode=require", "gssencmode=require cannot be honoured"),
        ("sslcertmode=require", "sslcertmode=require cannot be honoured"),
        ("require_auth=scram-sha-256", "require_auth=… cannot be honoured"),
        ("requirepeer=postgres", "requirepeer=… cannot be honoured"),
        ("sslcrldir=/etc", "sslcrldir=… cannot be honoured"),
        ("replication=database", "replication=database cannot be honoured"),
        ("min_protocol_version=3.2", "min_protocol_version=3.2 cannot be honoured"),
        ("scram_client_key=hunter2", "scram_client_key=… cannot be honoured"),
        ("oauth_client_secret=hunter2", "oauth_client_secret=… cannot be honoured"),
        ("sslmode=no-verify", "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("ssl=hunter2", "ssl must be true, false or one of disable, allow"),
        ("requiressl=perhaps", "requiressl must be true, false or one of"),
        ("sslmode=require&sslrootcert=/nowhere", "sslrootcert: /nowhere cannot be read: No such file or directory"),
        ("sslcert=/nowhere&sslkey=/nowhere", "sslcert: /nowhere cannot be read"),
        ("sslkey=/nowhere", "sslkey needs sslcert"),
        ("sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
        ("sslnegotiation=direct", "sslnegotiation=direct needs sslmode=require"),
        ("ssl_min_protocol_version=TLSv9", "ssl_min_protocol_version must be one of TLSv1,"),
        ("target_session_attrs=standby", "target_session_attrs must be one of any, primary, read-write"),
        ("load_balance_hosts=often", "load_balance_hosts must be one of disable, random"),
        ("connect_timeout=soon", "connect_timeout must be a whole number of seconds"),
        ("pgbouncer=perhaps", "pgbouncer must be true or false"),
        ("passfile=/nowhere", "passfile: /nowhere cannot be read"),
        (
            "service=segue&servicefile=~nobody-here/x",
            "service=segue: ~nobody-here/x is in a home directory",
        ),
        ("service=segue&servicefile=/nowhere", "service=segue: /nowhere cannot be read: No such file or directory"),
        ("hostaddr=10.0.0.1&sslmode=verify-full", "hostaddr cannot be combined with sslmode=verify-full"),
        ("sslmoed=verify-full", "'sslmoed' is no parameter of libpq"),
        ("statement_timeout=5", "'statement_timeout' is no parameter of libpq"),
    ],
)
def test_a_parameter_that_is_unsafe_to_ignore_is_refused_by_name(query: str, told: str) -> None:
    refused(f"postgresql://me:hunter2@db/x?{query}", told)


@pytest.mark.parametrize(
    "query",
    [
        "keepalives=1",
        "keepalives_idle=30",
        "keepalives_interval=5",
        "keepalives_count=3",
        "tcp_user_timeout=1000",
        "sslcompression=0",
        "sslsni=1",
        "gssdelegation=0",
        "client_encoding=LATIN1",
        "schema=public",
        "connection_limit=5",
        "options=-csearch_path%3Dpublic",
    ],
)
def test_a_harmless_unknown_parameter_is_ignored_with_a_note(query: str) -> None:
    (note,) = parameters(query).notes
    assert query.partition("=")[0] in note
    assert "is ignored" in note


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sslmode=",
        "channel_binding=prefer",
        "gssencmode=disable",
        "sslcertmode=allow",
        "replication=false",
        "max_protocol_version=latest",
        "client_encoding=UTF8",
        "fallback_application_name=x",
    ],
)
def test_a_parameter_with_its_default_is_ignored_without_a_note(query: str) -> None:
    read = parameters(query)
    assert (read.passed_on, read.notes) == ({}, [])


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("sslmode=verify-full", {"passed_on": {"sslmode": "verify-full"}}),
        ("ssl=true", {"passed_on": {"sslmode": "require"}}),
        ("ssl=TRUE", {"passed_on": {"sslmode": "require"}}),
        ("ssl=verify-ca", {"passed_on": {"sslmode": "verify-ca"}}),
        ("requiressl=1", {"passed_on": {"sslmode": "require"}}),
        ("sslrootcert=system", {"passed_on": {}, "system_trust": True}),
        ("target_session_attrs=read-write", {"passed_on": {"target_session_attrs": "read-write"}}),
        ("connect_timeout=3", {"connect_timeout_s": 3}),
        ("connect_timeout=1", {"connect_timeout_s": 2}),
        ("connect_timeout=0", {"connect_timeout_s": 10}),
        ("connect_timeout=999", {"connect_timeout_s": 30}),
        ("application_name=mine", {"startup": {"application_name": "mine"}}),
        ("options=-c%20role%3Downer%20--work-mem%3D8MB", {"settings": {"role": "owner", "work_mem": "8MB"}}),
        ("options=-cx.y%3Da%5C%20b", {"settings": {"x.y": "a b"}}),
        ("options=endpoint%3Dep-cool-1", {"startup": {"options": "endpoint=ep-cool-1"}, "settings": {}}),
        ("options=-c%20a%3Bb%3D1", {"startup": {"options": "-c a;b=1"}, "settings": {}}),
        ("load_balance_hosts=random", {"shuffled": True}),
        ("pgbouncer=true", {"pooler": True}),
        ("pgbouncer=false", {"pooler": False}),
        ("prepared_statement_cache_size=0", {"pooler": True}),
    ],
)
def test_parameters_with_another_name_in_asyncpg_are_translated(query: str, wanted: dict[str, Any]) -> None:
    read = parameters(query)
    assert {name: getattr(read, name) for name in wanted} == wanted


def test_a_service_is_looked_up_and_the_url_takes_precedence(tmp_path: Path) -> None:
    file = tmp_path / "pg_service.conf"
    file.write_text("# ours\n[segue]\nhost=from-service\nport=6000\nuser=me\npassword=hunter2\nsslmode=require\n")
    read = read_database_url("postgresql:///x?service=segue", {"PGSERVICEFILE": str(file)})
    assert (read.name, read.user, read.password) == ("from-service:6000/x", "me", SECRET)
    assert read.parameters.passed_on == {"sslmode": "require"}
    over = read_database_url(f"postgresql://you@db/x?service=segue&servicefile={file}&sslmode=disable")
    assert (over.name, over.user, over.parameters.passed_on) == ("db:5432/x", "you", {"sslmode": "disable"})
    refused(f"postgresql:///x?service=other&servicefile={file}", "has no section of that name")
    file.write_text("not a section")
    refused(f"postgresql:///x?service=segue&servicefile={file}", "it is no service file")


def test_a_password_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:hunter2")
    file.chmod(0o644)
    refused(f"postgresql://db/x?passfile={file}", f"chmod 600 {file}")
    file.chmod(0o600)
    assert parameters(f"passfile={file}").passed_on == {"passfile": str(file)}


def parameters(query: str) -> Any:
    return read_database_url(f"postgresql://db/x?{query}").parameters


def refused(url: str, told: str) -> None:
    with pytest.raises(BadDatabaseUrl) as raised:
        read_database_url(url)
    assert told in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)
