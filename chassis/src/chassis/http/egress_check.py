"""Checks that the egress rules allow the known hosts of outputs, before anything is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from chassis.http.egress import EgressPolicy, EgressRefused, Resolve, resolve_host

LIMIT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class BlockedHost:
    """A host that nothing can be fetched from."""

    host: str
    reason: str
    remedy: str
    """The setting to change, for the operator only."""


async def blocked_hosts(
    policy: EgressPolicy, hosts: Sequence[str], *, resolve: Resolve | None = None, within_s: float = LIMIT_S
) -> list[BlockedHost]:
    """Those of `hosts` without an address that the rules allow; nothing is connected to. Raises nothing."""
    found = await asyncio.gather(*(_blocked(policy, host, resolve or resolve_host, within_s) for host in hosts))
    return [blocked for blocked in found if blocked is not None]


async def _blocked(policy: EgressPolicy, host: str, resolve: Resolve, within_s: float) -> BlockedHost | None:
    try:
        async with asyncio.timeout(within_s):
            addresses = await resolve(host, 443)
        policy.vetted("https", host, 443, [ip_address(address) for address in addresses])
    except EgressRefused as error:
        return BlockedHost(host, error.reason, error.remedy)
    except TimeoutError:
        return BlockedHost(host, f"its name was not resolved within {within_s:g} s", "look at the resolver")
    except (OSError, ValueError) as error:
        return BlockedHost(host, f"its name cannot be resolved ({type(error).__name__})", "look at the resolver")
    return None
