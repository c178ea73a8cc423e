"""Fetching URLs from outside without giving their authors access to the internal network."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM
from typing import Final, Self

import httpcore
import httpx

from chassis.errors import CannotStart
from chassis.http.network.asyncio_stream import AsyncioStream

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and port to addresses. Raises OSError if it has none."""

MAX_REDIRECTS: Final = 3
EGRESS_CONNECTIONS: Final = 200
"""Connections of one client. A request beyond that waits, and fails as if it could not connect."""
MAX_ADDRESSES: Final = 4
"""How many addresses of a name are tried."""

_HOST: Final = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?![0-9]+$)[a-z0-9]([a-z0-9-]*[a-z0-9])?"
)

# Ranges that ipaddress.is_global counts as public in some Python version, by IANA's special-purpose registries
# (https://www.iana.org/assignments/iana-ipv4-special-registry), and ranges that clouds use internally.
_NOT_PUBLIC: Final[tuple[IPNetwork, ...]] = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, and one cloud's metadata
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's platform address: in public space, answered by the host
        "2001::/23",  # Teredo, ORCHID and other protocol assignments
        "2001:db8::/32",
        "3fff::/20",  # documentation
    )
)
# Contains all global unicast addresses, and no unique local or multicast address.
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
_FAKE_ADDRESSES: Final = IPv4Network("198.18.0.0/15")
"""Reserved for benchmarks (RFC 2544). Transparent proxies resolve every name to one of these addresses."""
_NAT64: Final = IPv6Network("64:ff9b::/96")


class EgressRefused(Exception):
    """A URL must not be fetched. The text may be shown to clients: it names the host, not its addresses or the URL.

    `host`, `reason` and `remedy` are for the operator: why it is refused, and the setting that would allow it.
    """

    def __init__(self, host: str, reason: str, *, remedy: str = "", public_reason: str | None = None) -> None:
        super().__init__(f"Segue's egress rules refuse {host or 'a URL without a host'}: {public_reason or reason}")
        self.host = host
        self.reason = reason
        self.remedy = remedy or "no setting allows that"


def embedded_ipv4(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address embedded in an IPv6 address, to which its packets are routed; None if there is none.

    Covers NAT64's well-known prefix (RFC 6052 §2.1), which DNS64 uses for every name in a network without IPv4;
    IPv4-mapped addresses (RFC 4291 §2.5.5.2); 6to4 (RFC 3056 §2). A network's own NAT64 prefix (RFC 8215) cannot be
    recognised from outside, and is not public.
    """
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def is_public(address: IPAddress) -> bool:
    """Whether the address is globally routable, so that a request to it has no advantage from being sent from here.

    An address that embeds an IPv4 address is public if that one is.
    """
    if (embedded := embedded_ipv4(address)) is not None:
        return is_public(embedded)
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST_V6:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Allowed destinations: https on port 443 of public addresses, and anything at the listed hosts and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read hosts, addresses and networks separated by commas. Raises ValueError that names the invalid entry."""
        hosts: set[str] = set()
        networks: list[IPNetwork] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            try:
                networks.append(ip_network(entry.strip("[]")))
            except ValueError as error:
                hosts.add(_host_name(entry, error))
        return cls(frozenset(hosts), tuple(networks))

    def refusal(self, scheme: str, host: str, port: int, address: IPAddress) -> str | None:
        """Why `host` must not be fetched from at this address, as text; None if it may."""
        if _normalized(host) in self.hosts or any(
            each in network for network in self.networks for each in _both(address)
        ):
            return None
        if not is_public(address):
            return f"{address} is not a public address"
        if scheme != "https":
            return f"only https is fetched, not {scheme}"
        return None if port == 443 else f"only port 443 is fetched, not {port}"

    def vetted(self, scheme: str, host: str, port: int, addresses: Sequence[IPAddress]) -> list[IPAddress]:
        """The first MAX_ADDRESSES addresses that are allowed. Raises EgressRefused if none of them is."""
        refusals = {address: self.refusal(scheme, host, port, address) for address in addresses}
        vetted = [address for address, refusal in refusals.items() if refusal is None]
        if not vetted and refusals:
            address, reason = next(iter(refusals.items()))
            public_reason = None if is_public(address) else "it has no public address"
            raise EgressRefused(host, str(reason), remedy=_remedy(host, address), public_reason=public_reason)
        return vetted[:MAX_ADDRESSES]


@asynccontextmanager
async def egress_client(
    allow: EgressPolicy, *, connect_s: float = 10.0, read_s: float = 30.0, resolve: Resolve | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client for URLs from outside: no proxy, no cookies, and redirects only through `following`.

    Its requests raise EgressRefused besides httpx's errors. TLS trusts SSL_CERT_FILE or SSL_CERT_DIR if they are set
    when the client is made, else the public authorities. Raises CannotStart if these cannot be read.
    """
    tls = tls_context()
    encrypted, plain = (
        _VettedTransport(tls, _VettedBackend(scheme, allow, resolve or resolve_host)) for scheme in ("https", "http")
    )
    async with httpx.AsyncClient(
        transport=encrypted,
        mounts={"http://": plain},
        trust_env=False,
        timeout=httpx.Timeout(read_s, connect=connect_s),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"user-agent": "segue"},
    ) as client:
        yield client


@asynccontextmanager
async def following(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    """The streamed response to `request` after at most three redirects; each of them is checked like the first URL.

    Raises httpx.TooManyRedirects. httpx's own redirect handling would read the bodies of redirects into memory, of any
    size.
    """
    for _ in range(MAX_REDIRECTS + 1):
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            if response.next_request is None:
                yield response
                return
            request = response.next_request
        finally:
            await response.aclose()
    raise httpx.TooManyRedirects(f"redirected more than {MAX_REDIRECTS} times", request=request)


class _VettedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, tls: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> None:
        # httpx takes no network backend, so its pool is replaced. If a later version renames the pool, the unusable
        # socket makes every request fail instead of sending it unchecked.
        super().__init__(verify=tls, trust_env=False, uds=os.devnull)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=EGRESS_CONNECTIONS,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.port is not None and not 0 < url.port < 65_536:
            # The socket would refuse it, too, but the network library raises that as a group of errors.
            raise httpx.InvalidURL(f"{url.host}: there is no port {url.port}")
        if url.scheme not in ("https", "http") or not url.host:
            raise EgressRefused(url.host, "only https URLs are fetched")
        if url.userinfo:
            raise EgressRefused(url.host, "URLs with a user name or password are not fetched")
        return await super().handle_async_request(request)


class _VettedBackend(httpcore.AsyncNetworkBackend):
    """Connects to exactly the addresses that were checked, so that a second name lookup cannot lead to another host."""

    def __init__(self, scheme: str, policy: EgressPolicy, resolve: Resolve) -> None:
        self._scheme = scheme
        self._policy = policy
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        # The last two are for settings of the pool that ours does not use.
        addresses = self._policy.vetted(self._scheme, host, port, await self._addresses(host, port, timeout))
        share = timeout / len(addresses) if timeout is not None else None
        failure: Exception | None = None
        for address in addresses:
            try:
                return await AsyncioStream.connect(str(address), port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int, timeout: float | None) -> list[IPAddress]:
        try:
            async with asyncio.timeout(timeout):
                found = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        return [ip_address(address) for address in dict.fromkeys(found)]


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """The addresses of a host and port, from the system's resolver. Raises OSError if it has none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


def tls_context() -> ssl.SSLContext:
    """A context that trusts SSL_CERT_FILE or SSL_CERT_DIR if set, else the public authorities. Raises CannotStart."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise CannotStart(f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used: {error.strerror or error}") from error


def _both(address: IPAddress) -> tuple[IPAddress, ...]:
    embedded = embedded_ipv4(address)
    return (address,) if embedded is None else (address, embedded)


def _remedy(host: str, address: IPAddress) -> str:
    remedy = f"SEGUE_EGRESS_ALLOW={_normalized(host)}"
    if address in _FAKE_ADDRESSES:
        remedy += f" (or {_FAKE_ADDRESSES}, if a proxy on this machine or network answers names with such addresses)"
    return remedy


def _normalized(host: str) -> str:
    return host.lower().rstrip(".")


def _host_name(entry: str, not_a_network: ValueError) -> str:
    try:
        host = _normalized(httpx.URL(scheme="https", host=entry).raw_host.decode("ascii"))
    except (httpx.InvalidURL, ValueError):
        host = ""
    if not _HOST.fullmatch(host):
        why = f" ({not_a_network})" if "/" in entry else ""
        raise ValueError(f"{entry!r} is neither a host name nor an address nor a network{why}")
    return host
