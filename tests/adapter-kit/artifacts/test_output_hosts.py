"""At its start an adapter warns of output hosts that the egress rules refuse."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs
from tests.patience import patient

from adapter_kit.artifacts.egress_advice import output_hosts_checked, tell_blocked_hosts
from chassis.http.egress import EgressPolicy
from fal_adapter.output_hosts import OUTPUT_HOSTS as FAL_HOSTS
from fal_adapter.output_hosts import output_hosts as fal_hosts
from replicate_adapter.output_hosts import OUTPUT_HOSTS as REPLICATE_HOSTS
from replicate_adapter.output_hosts import output_hosts as replicate_hosts


async def test_a_host_that_resolves_to_a_refused_address_is_logged() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["198.18.0.5"] if host == "v3.fal.media" else ["8.8.8.8"]

    with capture_logs() as logs:
        await tell_blocked_hosts(EgressPolicy(), FAL_HOSTS, resolve)
    (line,) = logs
    assert (line["log_level"], line["host"]) == ("warning", "v3.fal.media")
    assert line["remedy"].startswith("SEGUE_EGRESS_ALLOW=v3.fal.media")


async def test_a_resolver_that_hangs_does_not_delay_the_start() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(patient(2)), output_hosts_checked(EgressPolicy(), FAL_HOSTS, resolve):
        pass


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://api.replicate.com", REPLICATE_HOSTS),
        ("https://API.Replicate.com/", REPLICATE_HOSTS),
        ("http://127.0.0.1:9000", ()),
        ("https://replicate.com.evil.example", ()),
        ("", ()),
    ],
)
def test_replicates_output_hosts_are_checked_only_for_its_own_api(url: str, hosts: tuple[str, ...]) -> None:
    assert replicate_hosts(url) == hosts


@pytest.mark.parametrize(
    ("url", "hosts"),
    [("https://queue.fal.run/", FAL_HOSTS), ("https://localhost:8443/", ()), ("https://fal.run.x/", ())],
)
def test_fals_output_hosts_are_checked_only_for_its_own_api(
    monkeypatch: pytest.MonkeyPatch, url: str, hosts: tuple[str, ...]
) -> None:
    monkeypatch.setattr("fal_client.client.QUEUE_URL_FORMAT", url)
    assert fal_hosts() == hosts
