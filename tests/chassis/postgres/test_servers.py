"""A whole service starts and works on PostgreSQL over TLS, with several hosts, and through PgBouncer."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.chassis.bouncer import PROGRAM, pgbouncer
from tests.patience import eventually
from tests.users import let_others_enter

from segue_cli.local.ports import free_port
from segue_cli.local.postgres import postgres
from segue_cli.local.process import child
from segue_cli.stack.environment import without_settings
from segue_cli.stack.migrations import SCHEMAS, apply_migrations

pytestmark = pytest.mark.e2e
_NOBODY = 65534
_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
SERVER = shutil.which("postgres") or (str(_FOUND[-1]) if _FOUND else None)
"""A PostgreSQL with OpenSSL; the embedded one is built without it."""
needs_server = pytest.mark.skipif(SERVER is None, reason="no postgres installed: apt-get install postgresql")
IN_USE = """
SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
WHERE application_name = 'segue-orchestrator' AND ssl = $1
"""


@dataclass(frozen=True)
class Certificates:
    """The files of an authority, of a server, and of a client whose name is `segue`."""

    folder: Path

    def __post_init__(self) -> None:
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("authority")
        ca = _certificate(name, key, name, key, x509.BasicConstraints(ca=True, path_length=0))
        self.path("ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        at = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        for who, more in (("server", x509.SubjectAlternativeName(at)), ("segue", None)):
            own = ec.generate_private_key(ec.SECP256R1())
            signed = _certificate(name, key, _name(who), own, more)
            self.path(f"{who}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
            self.path(f"{who}.key").touch(mode=0o600)
            self.path(f"{who}.key").write_bytes(
                own.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )

    def path(self, name: str) -> Path:
        return self.folder / name


def _name(of: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)])


def _certificate(
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    more: x509.ExtensionType | None,
) -> x509.Certificate:
    now, serial = dt.datetime.now(dt.UTC), x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial)
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
    if more is not None:
        builder = builder.add_extension(more, critical=isinstance(more, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256())


def authority(folder: Path) -> Certificates:
    folder.mkdir()
    return Certificates(folder)


@asynccontextmanager
async def tls_server(folder: Path, files: Certificates) -> AsyncIterator[int]:
    """A server that takes nothing but TLS with a client's certificate, in the database `postgres`; yields its port."""
    assert SERVER is not None
    data, port, user = folder / "data", free_port(), _NOBODY if os.geteuid() == 0 else None
    data.mkdir(mode=0o700)
    if user is not None:
        os.chown(data, user, user)
        os.chown(files.path("server.key"), user, user)
    let_others_enter(folder)
    argv = [str(Path(SERVER).with_name("initdb")), f"--pgdata={data}", "--username=segue", "--auth=trust", "--no-sync"]
    async with child(argv, name="initdb", user=user, cwd="/") as process:
        assert await process.wait() == 0
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 cert\n")
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "ssl": "on",
        "fsync": "off",
    }
    settings |= {"ssl_cert_file": files.path("server.crt"), "ssl_key_file": files.path("server.key")}
    settings |= {"ssl_ca_file": files.path("ca.crt")}
    argv = [SERVER, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]

    def is_up(line: str) -> dict[str, str] | None:
        return {} if "database system is ready to accept connections" in line else None

    async with child(argv, name="postgres", user=user, cwd="/", ready=is_up):
        yield port


@asynccontextmanager
async def orchestrator(url: str, servers: str, folder: Path) -> AsyncIterator[list[str]]:
    """The orchestrator as a process; the block begins when it is ready, and gets what it logs."""
    port, lines = free_port(), list[str]()
    more = {"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": servers, "SEGUE_PORT": str(port)}
    env = {**without_settings(os.environ), **more, "SEGUE_KAFKA_SESSION_TIMEOUT_S": "1.5"}
    argv = [sys.executable, "-m", "orchestrator"]
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        child(argv, name="orchestrator", env=env, cwd=str(folder), on_line=lines.append) as process,
    ):

        async def ready() -> bool:
            assert process.returncode is None, lines
            try:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success
            except httpx.HTTPError:
                return False

        await eventually(ready, 60, lines)
        yield lines


@needs_server
async def test_over_tls_with_verify_full_and_a_client_certificate(embedded_kafka: str, tmp_path: Path) -> None:
    files = authority(tmp_path / "tls")
    async with tls_server(tmp_path, files) as port:
        tls = f"sslmode=verify-full&sslrootcert={files.path('ca.crt')}"
        tls += f"&sslcert={files.path('segue.crt')}&sslkey={files.path('segue.key')}"
        url = f"postgresql://segue@localhost:{port}/postgres?{tls}"
        await apply_migrations(url, SCHEMAS, lambda _schema, _migration: None)
        async with orchestrator(url, embedded_kafka, tmp_path):
            connection = await asyncpg.connect(url)
            try:
                assert await connection.fetchval(IN_USE, True) > 0
                assert await connection.fetchval(IN_USE, False) == 0
            finally:
                await connection.close()


@needs_server
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("sslcert", "connection requires a valid client certificate"),
        ("sslrootcert", "TLS with the server failed: .*certificate verify failed"),
    ],
)
async def test_what_is_wrong_with_tls_is_one_line(tmp_path: Path, wrong: str, told: str) -> None:
    files, other = authority(tmp_path / "tls"), authority(tmp_path / "other")
    async with tls_server(tmp_path, files) as port:
        given = {"sslmode": "verify-full", "sslrootcert": files.path("ca.crt")}
        given |= {"sslcert": files.path("segue.crt"), "sslkey": files.path("segue.key")}
        if wrong == "sslcert":
            del given["sslcert"], given["sslkey"]
        else:
            given["sslrootcert"] = other.path("ca.crt")
        query = "&".join(f"{name}={value}" for name, value in given.items())
        env = without_settings(os.environ) | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
        env["DATABASE_URL"] = f"postgresql://segue@localhost:{port}/postgres?{query}"
        argv = [sys.executable, "-m", "orchestrator"]
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, output = await process.communicate()
        [line] = output.decode().splitlines()
        assert process.returncode == 78, line
        assert re.match(f"orchestrator cannot start: DATABASE_URL: {told}", line), line


async def test_with_two_hosts_of_which_the_first_is_read_only(
    database_url: str, embedded_kafka: str, tmp_path: Path
) -> None:
    async with postgres() as standby:
        connection = await asyncpg.connect(standby.url)
        await connection.execute(f"CREATE DATABASE {database_url.rpartition('/')[2]}")
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        host = standby.url.partition("@")[2].partition("/")[0]
        url = database_url.replace("@", f"@{host},")
        async with orchestrator(url, embedded_kafka, tmp_path):
            connection = await asyncpg.connect(database_url)
            assert await connection.fetchval(IN_USE, False) > 0
            await connection.close()


@pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer on the PATH: apt-get install pgbouncer")
async def test_through_pgbouncer_in_transaction_mode(database_url: str, embedded_kafka: str, tmp_path: Path) -> None:
    async with pgbouncer(database_url, tmp_path, size=4) as url, orchestrator(url, embedded_kafka, tmp_path) as lines:
        assert any("a connection pooler is in use" in line for line in lines), lines
