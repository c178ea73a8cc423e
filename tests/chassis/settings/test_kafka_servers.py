"""Addresses of brokers in all accepted spellings, and the diagnosis if none answers."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.patience import patient

from chassis.settings.kafka_servers import diagnose_servers, read_servers
from sandbox.http.certificates import make_certificates
from segue_cli.local.ports import free_port


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("a:9092", ("a:9092",)),
        ("kafka.example.:9092", ("kafka.example.:9092",)),
        (" a:9092 , b:9093,, ", ("a:9092", "b:9093")),
        ("kafka://a:9092/", ("a:9092",)),
        ("PLAINTEXT://a:9092,PLAINTEXT://b:9092", ("a:9092", "b:9092")),
        ("[::1]:9092,127.0.0.1:9092", ("[::1]:9092", "127.0.0.1:9092")),
    ],
)
def test_accepted_spellings(text: str, servers: tuple[str, ...]) -> None:
    assert read_servers(text) == servers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be host:port"),
        (" , ", "must be host:port"),
        ("localhost", "must be host:port, or several with commas between, and 'localhost' is not"),
        ("a:9092 b:9092", "'a:9092 b:9092'"),
        ("a:9092;b:9092", "is not"),
        ("a:", "'a:' is not"),
        ("a:0", "'a:0' is not"),
        ("a..b:9092", "'a..b:9092' is not"),
        (f"{'a' * 64}:9092", "is not"),
        (f"{'a.' * 127}:9092", "is not"),
        ("a:65536", "'a:65536' is not"),
        ("::1:9092", "an IPv6 address goes in brackets"),
        ("[nonsense]:9092", "is not"),
        ("SSL://a:9093", "names SSL, and Segue connects to Kafka in plain text"),
        ("SASL_SSL://a:9093", "names SASL_SSL"),
        ("http://a:9092", "names http"),
        ("kafka://me:hunter2@a:9092", "Segue logs in to no broker"),
        ("a\u200b:9092", "'a\\u200b:9092' "),
    ],
)
def test_an_invalid_address_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        read_servers(text)
    assert "hunter2" not in str(raised.value)


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


async def test_each_address_is_diagnosed(tmp_path: Path, embedded_kafka: str) -> None:
    files = make_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.cert_file, files.key_file)
    nobody = f"127.0.0.1:{free_port()}"
    async with listening() as silent, listening(tls) as encrypted, asyncio.timeout(patient(15)):
        found = await diagnose_servers([nobody, "no-such-host.invalid:9092", encrypted, silent, embedded_kafka])
    assert f"{nobody}: nothing listens there" in found
    assert "no-such-host.invalid:9092: the host name is not known (" in found
    assert f"{encrypted}: it uses TLS, and Segue connects to Kafka in plain text" in found
    assert f"{silent}: the server there does not respond as a Kafka broker" in found
    assert f"{embedded_kafka}: the server there does not respond as a Kafka broker" in found
