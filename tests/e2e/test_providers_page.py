"""The API shows a refused key, and its recovery, within a second of the adapter's breaker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.patience import patient

if TYPE_CHECKING:
    from tests.e2e.conftest import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED = "Authentication is required to access this application."
BREAKER = "SELECT state, retry_at <= now() AS due, openings FROM fal_adapter.v_gates WHERE scope = ''"


async def pages(system: System) -> tuple[str, dict[str, Any]]:
    """fal in `/api/health/providers`, and in `/api/providers`."""
    short = (await system.api.get("/api/health/providers")).json()
    long = (await system.api.get("/api/providers")).json()["providers"]
    return short["fal"], next(each for each in long if each["provider"] == "fal")


async def lag_s(
    system: System, breaker_changed: Callable[[], Awaitable[bool]], pages_changed: Callable[[], Awaitable[bool]]
) -> float:
    """The seconds from a change of the breaker to that of the pages."""
    await system.until("the breaker changes", breaker_changed, 30)
    changed = time.monotonic()
    await system.until("the pages change", pages_changed, 5)
    return time.monotonic() - changed


async def test_a_refused_key_and_its_recovery_show_within_a_second(system: System) -> None:
    ledger = await asyncpg.connect(system.env["DATABASE_URL"])

    async def breaker_is(state: str) -> bool:
        row = await ledger.fetchrow(BREAKER)
        return row is not None and row["state"] == state

    async def pages_show(status: str, breaker: str) -> bool:
        short, long = await pages(system)
        return bool(short == long["status"] == status and long["breaker"]["state"] == breaker)

    try:
        await system.until("fal is healthy", lambda: pages_show("ok", "closed"))
        probes = {"provider": "fal", "on": "probe", "action": {"refuse": "unauthorized"}}
        everything = {"provider": "fal", "action": {"refuse": "unauthorized"}}
        (await system.sandbox.put("/faults", json=[everything, probes])).raise_for_status()
        job = await system.submit("the key was revoked", providers=["fal", "replicate"])
        opened_s = await lag_s(system, lambda: breaker_is("open"), lambda: pages_show("fail", "open"))
        assert opened_s < patient(1)
        short, long = await pages(system)
        assert (short, long["last_error"]["kind"]) == ("fail", "unauthorized")
        assert REFUSED in long["error"]
        assert (await system.ended(job))["provider"] == "replicate"

        async def probe_refused() -> bool:
            _, fal = await pages(system)
            return bool(fal["probe"]["status"] == "fail" and fal["breaker"]["retry_at"] > fal["probe"]["checked_at"])

        await system.until("the free probe is refused, too", probe_refused, 30)
        posts = len(await system.posts(""))
        again = await system.ended(await system.submit("still revoked", providers=["fal", "replicate"]))
        assert [(each["provider"], each["error_kind"]) for each in again["attempts"]] == [
            ("fal", "unavailable"), ("replicate", None),
        ]  # fmt: skip
        assert len(await system.posts("")) == posts + 1, "a paid probe was spent on a refused key"

        (await system.sandbox.put("/faults", json=[])).raise_for_status()

        async def due() -> bool:
            row = await ledger.fetchrow(BREAKER)
            return row is not None and bool(row["due"]) and row["openings"] == 1

        # The last refusal opened it for 30 s; an accepted probe makes it due at once.
        await system.until("the breaker is due", due, 20)
        job = await system.submit("taken again", providers=["fal"])
        closed_s = await lag_s(system, lambda: breaker_is("closed"), lambda: pages_show("ok", "closed"))
        assert closed_s < patient(1)
        assert (await system.ended(job))["status"] == "succeeded"
        _, long = await pages(system)
        assert REFUSED in long["last_error"]["message"]
        assert long["recent"]["kinds"]["unauthorized"] >= 1
        assert long["recent"]["p50_s"] > 0
    finally:
        await ledger.close()
        await system.reset_providers()
