"""`segue doctor` checks whether outputs can be fetched, before they are paid for."""

import socket
from typing import Any

import pytest

from segue_cli.doctor.egress import output_hosts

KEYS = {"FAL_KEY": "id:secret", "REPLICATE_API_TOKEN": "r8_x"}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The address of each host name; all others cannot be resolved."""
    known: dict[str, str] = {}

    def getaddrinfo(host: str, port: int, *_args: Any, **_kwargs: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", "https://queue.fal.run/")
    return known


async def test_hosts_with_public_addresses_are_fine(names: dict[str, str]) -> None:
    names.update(dict.fromkeys(("v3.fal.media", "v3b.fal.media", "fal.media"), "8.8.8.8"))
    (finding,) = await output_hosts({"FAL_KEY": "id:secret"})
    assert finding.verdict == "ok"
    assert "v3.fal.media" in finding.found


async def test_hosts_that_are_refused_are_named_with_the_setting(names: dict[str, str]) -> None:
    names.update({"replicate.delivery": "198.18.0.5"})
    refused, unknown = await output_hosts({"REPLICATE_API_TOKEN": "r8_x"})
    assert (refused.verdict, unknown.verdict) == ("warn", "warn")
    assert "SEGUE_EGRESS_ALLOW=replicate.delivery" in refused.todo
    assert "pbxt.replicate.delivery" in unknown.found
    names["pbxt.replicate.delivery"] = "10.0.0.1"
    allowed = {"REPLICATE_API_TOKEN": "r8_x", "SEGUE_EGRESS_ALLOW": "198.18.0.0/15,10.0.0.0/8"}
    assert [finding.verdict for finding in await output_hosts(allowed)] == ["ok"]


async def test_without_keys_or_with_the_sandbox_nothing_is_checked(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await output_hosts({}) == []
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", "https://localhost:8443/")
    assert await output_hosts(KEYS | {"REPLICATE_BASE_URL": "http://127.0.0.1:9000"}) == []


async def test_a_setting_that_cannot_be_read_is_named(names: dict[str, str]) -> None:
    (finding,) = await output_hosts(KEYS | {"SEGUE_EGRESS_ALLOW": "no host"})
    assert (finding.what, finding.verdict) == ("SEGUE_EGRESS_ALLOW", "fail")
