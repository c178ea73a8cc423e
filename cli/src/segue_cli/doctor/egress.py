"""The doctor's check of the egress rules: whether outputs of the real providers can be fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chassis.http.egress import EgressPolicy
from chassis.http.egress_check import blocked_hosts
from segue_cli.doctor.advice import Finding

_WHAT: Final = "output hosts"


async def output_hosts(env: Mapping[str, str]) -> list[Finding]:
    """Check that the hosts of the providers' outputs have addresses that the egress rules allow.

    A provider without a key, and the sandbox, have no outputs to fetch and are skipped.
    """
    hosts = _hosts(env)
    if not hosts:
        return []
    try:
        policy = EgressPolicy.parse(env.get("SEGUE_EGRESS_ALLOW", ""))
    except ValueError as error:
        todo = "Hosts, addresses or networks, with commas between them."
        return [Finding("SEGUE_EGRESS_ALLOW", "fail", str(error), todo)]
    blocked = await blocked_hosts(policy, hosts)
    if not blocked:
        return [Finding(_WHAT, "ok", f"{', '.join(hosts)}: none is refused")]
    return [
        Finding(
            _WHAT,
            "warn",
            f"{one.host}: {one.reason}",
            f"Runs would be paid for whose outputs cannot be fetched. Remedy: {one.remedy}.",
        )
        for one in blocked
    ]


def _hosts(env: Mapping[str, str]) -> tuple[str, ...]:
    # fal's SDK reads its hosts from the environment when it is imported.
    from fal_adapter.output_hosts import output_hosts as of_fal
    from replicate_adapter.output_hosts import output_hosts as of_replicate
    from replicate_adapter.provider import REPLICATE_URL

    fal = of_fal() if env.get("FAL_KEY") or env.get("FAL_API_KEY") else ()
    base_url = env.get("REPLICATE_BASE_URL", REPLICATE_URL)
    return fal + (of_replicate(base_url) if env.get("REPLICATE_API_TOKEN") else ())
