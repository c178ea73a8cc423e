"""Log records for operators about output hosts that the settings refuse or the network cannot reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Final

from adapter_kit.log_events import OutputEvent
from chassis.http.egress import EgressPolicy, EgressRefused, Resolve
from chassis.http.egress_check import blocked_hosts
from chassis.observability.logs import get_logger

EVERY_S: Final = 60.0
"""Minimum interval between two records about one host, in seconds."""
MAX_HOSTS: Final = 1000

_log = get_logger("adapter_kit.egress")


class RefusalLog:
    """Logs each refused or unreachable host, at most once a minute."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def tell(self, error: EgressRefused) -> None:
        """Log the refused host, the reason and the remedy."""
        if not self._is_due(error.host):
            return
        _log.error(
            OutputEvent.OUTPUT_HOST_REFUSED,
            host=error.host,
            reason=error.reason,
            remedy=error.remedy,
        )

    def tell_unconnected(self, host: str, why: str) -> None:
        """Log that no connection to a host can be made, with the reason and the remedy."""
        if self._is_due(host):
            _log.error(
                OutputEvent.OUTPUT_HOST_UNREACHABLE,
                host=host,
                reason=why,
                remedy="let this machine resolve and reach the host on port 443; behind a proxy that opens TLS, set "
                "SSL_CERT_FILE to its authority",
            )

    def _is_due(self, host: str) -> bool:
        now = self._clock()
        if now < self._logged_at.get(host, now - EVERY_S) + EVERY_S:
            return False
        if len(self._logged_at) >= MAX_HOSTS:
            self._logged_at.clear()
        self._logged_at[host] = now
        return True


@asynccontextmanager
async def output_hosts_checked(
    policy: EgressPolicy, hosts: Sequence[str], resolve: Resolve | None = None
) -> AsyncIterator[None]:
    """Log, concurrently with the block, those of the hosts from which outputs cannot be fetched."""
    check = asyncio.create_task(tell_blocked_hosts(policy, hosts, resolve))
    try:
        yield
    finally:
        check.cancel()
        with suppress(asyncio.CancelledError):
            await check


async def tell_blocked_hosts(policy: EgressPolicy, hosts: Sequence[str], resolve: Resolve | None = None) -> None:
    """Log a warning for each host without an address that the egress rules allow. Takes at most some seconds."""
    for blocked in await blocked_hosts(policy, hosts, resolve=resolve):
        _log.warning(
            OutputEvent.OUTPUT_HOST_BLOCKED,
            host=blocked.host,
            reason=blocked.reason,
            remedy=blocked.remedy,
        )
