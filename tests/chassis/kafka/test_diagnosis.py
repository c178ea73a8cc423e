"""The diagnosis if no broker answers; logins need Apache Kafka, and are tested with it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.patience import patient

from chassis.kafka.diagnosis import diagnose, refusal
from chassis.settings.kafka.cluster import KafkaCluster, Tls
from sandbox.http.certificates import make_certificates
from segue_cli.local.ports import free_port


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that accepts connections and sends nothing, in plain text or over TLS."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def encrypted(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """The address of such a server over TLS, and the file with the authority of its certificate."""
    files = make_certificates(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.cert_file, files.key_file)
    async with listening(tls) as server:
        yield server, Path(files.ca_file)


async def test_each_address_is_diagnosed(tmp_path: Path, embedded_kafka: str) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    async with listening() as silent, encrypted(tmp_path) as (over_tls, _), asyncio.timeout(patient(15)):
        servers = [nobody, "no-such-host.invalid:9092", over_tls, silent, embedded_kafka]
        cluster = KafkaCluster(",".join(servers))
        found = await diagnose(cluster)
        assert await refusal(cluster) is None, "one of them answers"
    assert f"{nobody}: nothing listens there" in found
    assert "no-such-host.invalid:9092: the host name is not known (" in found
    assert f"{over_tls}: it uses TLS: set KAFKA_SECURITY_PROTOCOL to SSL" in found
    assert f"{silent}: the server there does not respond as a Kafka broker" in found
    assert f"{embedded_kafka}: it answers now" in found


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        (None, "KAFKA_SECURITY_PROTOCOL: {server}: it uses TLS: set KAFKA_SECURITY_PROTOCOL to SSL"),
        (Tls(), "KAFKA_SSL_TRUSTSTORE_LOCATION: {server}: its certificate is not trusted ("),
    ],
)
async def test_a_connection_that_a_setting_prevents_is_not_worth_another_try(
    tmp_path: Path, tls: Tls | None, told: str
) -> None:
    async with encrypted(tmp_path) as (server, _):
        refused = await refusal(KafkaCluster(server, tls=tls))
    assert str(refused).startswith(told.format(server=server))


async def test_a_server_that_may_answer_later_is_worth_another_try(tmp_path: Path) -> None:
    async with listening() as silent, encrypted(tmp_path) as (over_tls, authority):
        for cluster in (
            KafkaCluster(f"127.0.0.1:{free_port()}"),
            KafkaCluster(silent),
            KafkaCluster(over_tls, tls=Tls(truststore=authority)),
        ):
            assert await refusal(cluster) is None


async def test_plain_text_where_tls_is_expected_is_told(embedded_kafka: str) -> None:
    found = await diagnose(KafkaCluster(embedded_kafka, tls=Tls()))
    assert found.startswith(f"{embedded_kafka}: the server there does not answer in TLS; KAFKA_SECURITY_PROTOCOL has")
