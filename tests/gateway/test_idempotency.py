"""The first uses of keys that concurrent requests store together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from chassis.postgres.pool import open_pool
from gateway.context import TENANT
from gateway.intake import idempotency
from gateway.intake.idempotency import Fingerprints, FirstUse, Key
from gateway.queries.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def remember(fingerprints: Fingerprints, key: str, fingerprint: str, trace: str | None = None) -> FirstUse | None:
    return await fingerprints.remember(TENANT, Key(key, given=True), fingerprint, "a job", trace)


async def begun(work: Coroutine[Any, Any, FirstUse | None]) -> asyncio.Task[FirstUse | None]:
    """The task of a request that finds no statement running, once its own has begun."""
    task = asyncio.create_task(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def transactions(world: Any, keys: list[str]) -> list[str]:
    """The transaction that stored each of the keys that are stored."""
    connection = await asyncpg.connect(world.database_url)
    try:
        rows = await connection.fetch("SELECT xmin::text FROM gateway.idempotency WHERE key = ANY($1::text[])", keys)
        return [row["xmin"] for row in rows]
    finally:
        await connection.close()


async def test_requests_that_arrive_during_a_statement_share_the_next_one(world: Any) -> None:
    keys = [str(uuid4()) for _ in range(20)]
    alone = await begun(remember(world.parts.fingerprints, keys[0], f"of {keys[0]}"))
    stored = await asyncio.gather(*(remember(world.parts.fingerprints, key, f"of {key}") for key in keys[1:]))
    assert [await alone, *stored] == [FirstUse(f"of {key}", None) for key in keys]
    found = await transactions(world, keys)
    assert (len(found), len(set(found))) == (20, 2)


async def test_the_first_of_equal_keys_in_one_statement_wins(world: Any) -> None:
    key, between = str(uuid4()), str(uuid4())
    uses = [(key, "first", "trace 1"), (between, "other", None), (key, "second", "trace 2")]
    stored = await asyncio.gather(*(remember(world.parts.fingerprints, *use) for use in uses))
    assert stored == [FirstUse("first", "trace 1"), FirstUse("other", None), FirstUse("first", "trace 1")]
    assert await remember(world.parts.fingerprints, key, "third") == FirstUse("first", "trace 1")


async def test_a_row_that_is_refused_fails_its_own_request_only(world: Any) -> None:
    keys = [str(uuid4()) for _ in range(3)]
    uses = zip(keys, ("a", "nul \0", "c"), strict=True)
    works = (remember(world.parts.fingerprints, *use) for use in uses)
    first, refused, last = await asyncio.gather(*works, return_exceptions=True)
    assert (first, last) == (FirstUse("a", None), FirstUse("c", None))
    assert isinstance(refused, asyncpg.DataError)


async def test_replicas_that_store_the_same_keys_in_any_order_agree_without_deadlock(world: Any) -> None:
    async with (
        open_pool(world.database_url, "gateway", max_size=2) as one,
        open_pool(world.database_url, "gateway", max_size=2) as two,
    ):
        replicas = {name: Fingerprints(Database(pool)) for name, pool in (("one", one), ("two", two))}
        for _ in range(10):
            keys = [str(uuid4()) for _ in range(30)]
            works = {
                name: [remember(fingerprints, key, name) for key in random.sample(keys, len(keys))]
                for name, fingerprints in replicas.items()
            }
            stored = await asyncio.gather(*works["one"], *works["two"])
            assert None not in stored
            again = await asyncio.gather(*(remember(replicas["one"], key, "late") for key in keys))
            winners = sorted(use.fingerprint for use in stored if use)
            assert winners == sorted(use.fingerprint for use in again * 2 if use)


async def test_a_request_that_is_cancelled_does_not_disturb_those_of_its_statement(world: Any) -> None:
    keys = [str(uuid4()) for _ in range(4)]
    works = [asyncio.create_task(remember(world.parts.fingerprints, key, key)) for key in keys]
    await asyncio.sleep(0)
    works[0].cancel()
    works[2].cancel()
    done = await asyncio.gather(*works, return_exceptions=True)
    assert [type(result) for result in done[::2]] == [asyncio.CancelledError] * 2
    assert done[1::2] == [FirstUse(keys[1], None), FirstUse(keys[3], None)]


async def test_a_locked_key_does_not_fail_the_requests_behind_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    locked, free = str(uuid4()), str(uuid4())
    await remember(world.parts.fingerprints, locked, "first")
    connection = await asyncpg.connect(world.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM gateway.idempotency WHERE key = $1 FOR UPDATE", locked)
            monkeypatch.setattr(idempotency, "REMEMBER_LIMIT_S", 1.5)
            waiting = await begun(remember(world.parts.fingerprints, locked, "second"))
            monkeypatch.setattr(idempotency, "REMEMBER_LIMIT_S", 30.0)
            assert await remember(world.parts.fingerprints, free, "free") == FirstUse("free", None)
            assert await waiting is None
    finally:
        await connection.close()
    assert await remember(world.parts.fingerprints, locked, "third") == FirstUse("first", None)
