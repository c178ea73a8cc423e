import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.tls import NAME, Tls

from chassis.errors import CannotStart
from chassis.http.egress import EgressPolicy, EgressRefused, egress_client, following, is_public
from chassis.http.egress_check import blocked_hosts


@dataclass
class Server:
    """Gives every request the same answer, one for each connection, and records the requests."""

    answer: Callable[[str], bytes]
    port: int = 0
    connections: int = 0
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer(self.asked[-1].split(" ")[1]))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def text(body: str, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def redirect(location: str) -> bytes:
    return text("moved", "302 Found", f"location: {location}")


@asynccontextmanager
async def serving(
    answer: Callable[[str], bytes] = lambda _: text("hello"), host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(answer)
    async with await asyncio.start_server(server.serve, host, 0, ssl=tls) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


class Names:
    """A resolver with prepared answers; the last one is repeated."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def fetch(client: httpx.AsyncClient, url: str) -> str:
    async with following(client, client.build_request("GET", url)) as response:
        return (await response.aread()).decode()


def test_a_policy_is_read_from_hosts_addresses_and_networks() -> None:
    policy = EgressPolicy.parse(" 127.0.0.1, 10.0.0.0/8,Files.Example., [::1] ,fd00::/8, bücher.example,localhost,,")
    assert policy.hosts == {"files.example", "xn--bcher-kva.example", "localhost"}
    assert set(map(str, policy.networks)) == {"127.0.0.1/32", "10.0.0.0/8", "::1/128", "fd00::/8"}
    assert EgressPolicy.parse("") == EgressPolicy()


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.1/8", "10.0.0.0/33", "300.1.1.1", "127.1", "*.example", "https://files.example", "files.example:8080",
     "two words", "a/b", "-x.example", "x..example", "user@files.example"],
)  # fmt: skip
def test_a_bad_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is neither") as caught:
        EgressPolicy.parse(f"127.0.0.1,{entry}")
    assert repr(entry) in str(caught.value)


PRIVATE = [
    "0.0.0.1", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::c612:5",
    "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110", "64:ff9b:1::808:808", "2002:c0a8:101::1", "::8.8.8.8",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1",
    "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused_unless_its_network_is_allowed(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    assert not is_public(parsed)
    assert EgressPolicy().refusal("https", NAME, 443, parsed) == f"{parsed} is not a public address"
    allowed = EgressPolicy.parse(address.partition("%")[0])
    assert allowed.refusal("http", NAME, 8080, parsed) is None


PUBLIC = [
    "1.1.1.1", "8.8.8.8", "172.32.0.1", "192.0.1.1", "2606:4700::1", "2a00:1450::1",
    # Addresses that embed a public IPv4 address: NAT64, IPv4-mapped, 6to4.
    "64:ff9b::808:808", "64:ff9b::6810:1", "::ffff:8.8.8.8", "2002:808:808::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed_by_https_on_port_443_only(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    assert EgressPolicy().refusal("https", NAME, 443, parsed) is None
    assert EgressPolicy().refusal("http", NAME, 80, parsed) == "only https is fetched, not http"
    assert EgressPolicy().refusal("https", NAME, 8443, parsed) == "only port 443 is fetched, not 8443"
    assert EgressPolicy.parse(NAME).refusal("http", NAME.upper() + ".", 80, parsed) is None


async def test_a_name_that_resolves_to_a_refused_address_is_not_connected_to() -> None:
    async with egress_client(EgressPolicy(), resolve=Names(*([address] for address in PRIVATE))) as client:
        for address in PRIVATE:
            with pytest.raises(EgressRefused) as caught:
                await client.get(f"https://{NAME}/secret-path?token=secret")
            assert str(caught.value) == f"Segue's egress rules refuse {NAME}: it has no public address"
            assert caught.value.host == NAME
            assert caught.value.reason == f"{ipaddress.ip_address(address)} is not a public address"
            assert caught.value.remedy.startswith(f"SEGUE_EGRESS_ALLOW={NAME}")
            assert "secret" not in str(vars(caught.value))


async def test_the_error_about_an_address_in_a_url_does_not_name_the_setting() -> None:
    async with egress_client(EgressPolicy()) as client:
        with pytest.raises(EgressRefused) as caught:
            await client.get("https://10.1.2.3/file")
    assert "SEGUE" not in str(caught.value)
    assert caught.value.remedy == "SEGUE_EGRESS_ALLOW=10.1.2.3"


def test_addresses_invented_by_a_proxy_are_named_as_such() -> None:
    with pytest.raises(EgressRefused) as caught:
        EgressPolicy().vetted("https", NAME, 443, [ipaddress.ip_address("198.18.0.5")])
    assert "198.18.0.0/15" in caught.value.remedy
    allowed = EgressPolicy.parse("198.18.0.0/15")
    assert allowed.vetted("https", NAME, 443, [ipaddress.ip_address("198.19.1.2")])


def test_a_network_is_allowed_behind_nat64_too() -> None:
    inner = ipaddress.ip_address("64:ff9b::a00:1")
    assert EgressPolicy.parse("10.0.0.0/8").refusal("https", NAME, 443, inner) is None
    assert EgressPolicy.parse("10.0.0.2").refusal("https", NAME, 443, inner) is not None


async def test_hosts_that_the_rules_refuse_are_found_in_advance() -> None:
    answers = {"good.example": ["8.8.8.8"], "nat.example": ["64:ff9b::808:808"], "fake.example": ["198.18.0.5"]}

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host == "slow.example":
            await asyncio.Event().wait()
        if host not in answers:
            raise OSError("no such name")
        return answers[host]

    hosts = [*answers, "gone.example", "slow.example"]
    blocked = await blocked_hosts(EgressPolicy(), hosts, resolve=resolve, within_s=0.2)
    assert [one.host for one in blocked] == ["fake.example", "gone.example", "slow.example"]
    assert "198.18.0.5" in blocked[0].reason
    assert blocked[0].remedy.startswith("SEGUE_EGRESS_ALLOW=fake.example")
    allowed = await blocked_hosts(EgressPolicy.parse("fake.example"), hosts[:3], resolve=resolve)
    assert allowed == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "0"])
async def test_every_spelling_of_loopback_is_refused(host: str) -> None:
    async with serving() as server, egress_client(EgressPolicy()) as client:
        with pytest.raises((EgressRefused, httpx.ConnectError)):
            await client.get(f"http://{host}:{server.port}/")
    assert server.connections == 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://files.example/x", "only https"),
        ("file:///etc/passwd", "only https"),
        ("https:///x", "only https"),
        ("/x", "only https"),
        ("https://user:word@files.example/x", "user name or password"),
    ],
)
async def test_an_unsupported_url_is_refused(url: str, reason: str) -> None:
    async with egress_client(EgressPolicy.parse("files.example")) as client:
        with pytest.raises(EgressRefused, match=reason):
            await client.get(url)


@pytest.mark.parametrize("port", [65_536, 99_999])
async def test_an_invalid_port_is_reported_without_a_connection(port: int) -> None:
    async with egress_client(EgressPolicy.parse("127.0.0.1")) as client:
        with pytest.raises(httpx.InvalidURL, match=rf"127\.0\.0\.1: there is no port {port}"):
            await fetch(client, f"http://127.0.0.1:{port}/x")


async def test_it_connects_to_the_checked_address_and_uses_the_host_name_for_tls(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with (
        serving(host="127.0.0.2", tls=tls.server) as server,
        egress_client(EgressPolicy.parse("127.0.0.2"), resolve=names) as client,
    ):
        url = f"https://{NAME}:{server.port}/file"
        assert await fetch(client, url) == "hello"
        assert f"host: {NAME}:{server.port}" in server.asked[0].lower()
        assert names.asked == 1
        # The name now resolves to another address: the next connection checks it again.
        with pytest.raises(EgressRefused, match="no public address"):
            await fetch(client, url)
    assert server.connections == 1


async def test_only_the_permitted_addresses_of_a_name_are_tried() -> None:
    async with serving() as other, serving(host="127.0.0.2") as server:
        names = Names(["127.0.0.1", "127.0.0.2"])
        async with egress_client(EgressPolicy.parse("127.0.0.2"), resolve=names) as client:
            assert await fetch(client, f"http://{NAME}:{server.port}/") == "hello"
    assert (other.connections, server.connections) == (0, 1)


async def test_the_next_address_is_tried_if_nothing_listens_at_the_first() -> None:
    names = Names(["127.0.0.3", "127.0.0.2"])
    async with (
        serving(host="127.0.0.2") as server,
        egress_client(EgressPolicy.parse("127.0.0.0/8"), resolve=names) as client,
    ):
        assert await fetch(client, f"http://{NAME}:{server.port}/") == "hello"


async def test_a_certificate_for_another_name_is_not_accepted(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.certificate))
    async with (
        serving(tls=tls.server) as server,
        egress_client(EgressPolicy.parse("127.0.0.1"), resolve=Names(["127.0.0.1"])) as client,
    ):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"https://other.example.com:{server.port}/")


async def test_a_certificate_of_an_untrusted_authority_is_not_accepted(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with (
        serving(tls=tls.server) as server,
        egress_client(EgressPolicy.parse("127.0.0.1"), resolve=Names(["127.0.0.1"])) as client,
    ):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"https://{NAME}:{server.port}/")


async def test_a_missing_ca_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(CannotStart, match="SSL_CERT_FILE"):
        async with egress_client(EgressPolicy()):
            pass


async def test_a_redirect_to_a_permitted_host_is_followed() -> None:
    pages = {"/0": redirect("/1"), "/1": redirect("/2"), "/2": redirect("/3"), "/3": text("there")}
    async with serving(pages.__getitem__) as server, egress_client(EgressPolicy.parse("127.0.0.1")) as client:
        assert await fetch(client, f"http://127.0.0.1:{server.port}/0") == "there"
        pages["/3"] = redirect("/4")
        with pytest.raises(httpx.TooManyRedirects, match="more than 3 times"):
            await fetch(client, f"http://127.0.0.1:{server.port}/0")


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data", "//10.0.0.1/", "http://[::1]:{port}/",
     "file:///etc/passwd", "https://user:word@127.0.0.2/"],
)  # fmt: skip
async def test_a_redirect_to_a_refused_host_is_refused(target: str) -> None:
    async with (
        serving() as inner,
        serving(lambda _: redirect(target.format(port=inner.port)), "127.0.0.2") as outer,
        egress_client(EgressPolicy.parse("127.0.0.2")) as client,
    ):
        with pytest.raises(EgressRefused):
            await fetch(client, f"http://127.0.0.2:{outer.port}/")
    assert (inner.connections, outer.connections) == (0, 1)


async def test_the_body_of_a_redirect_is_not_waited_for() -> None:
    endless = b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 1000000000\r\n\r\n" + b"x" * 1000
    pages = {"/": endless, "/there": text("there")}
    async with serving(pages.__getitem__) as server, egress_client(EgressPolicy.parse("127.0.0.1")) as client:
        assert await fetch(client, f"http://127.0.0.1:{server.port}/") == "there"


async def test_neither_proxies_nor_cookies_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as proxy, serving(lambda _: text("hello", "200 OK", "set-cookie: a=b; path=/")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with egress_client(EgressPolicy.parse("127.0.0.1")) as client:
            for _ in range(2):
                assert await fetch(client, f"http://127.0.0.1:{server.port}/") == "hello"
    assert proxy.connections == 0
    assert len(server.asked) == 2
    assert "cookie" not in server.asked[1].lower()


async def test_a_name_that_does_not_resolve_is_a_connection_error() -> None:
    async def unresolved(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async def no_addresses(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async with egress_client(EgressPolicy(), resolve=unresolved) as client:
        with pytest.raises(httpx.ConnectError, match="cannot be resolved"):
            await client.get(f"https://{NAME}/")
    async with egress_client(EgressPolicy(), resolve=no_addresses, connect_s=0.05) as client:
        with pytest.raises(httpx.ConnectTimeout, match="not resolved in time"):
            await client.get(f"https://{NAME}/")


async def test_a_server_that_does_not_answer_times_out() -> None:
    done = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with egress_client(EgressPolicy.parse("127.0.0.1"), read_s=0.05) as client:
            with pytest.raises(httpx.ReadTimeout):
                await fetch(client, f"http://127.0.0.1:{port}/")
        done.set()
