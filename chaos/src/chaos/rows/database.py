"""Rows 19 to 21 and 40: the database crashes, is locked, full of connections or read-only, or is lost at a commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import product
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from chaos.cluster.fleet import Fleet
from chaos.cluster.proxy import Proxy, ResetTrigger
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound, describe, resolved
from chaos.rows.base import RATE, Row
from chaos.rows.before import Before
from chaos.rows.kafka.brokers import more_accepted
from chaos.rows.probes import BillLog, MetricDeltas, log_sizes, logged_since, now, wait_for
from contracts.messages.attempts import AttemptSubmitted


async def _crash(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    counts = await MetricDeltas.of(fleet, "gateway", "orchestrator", "fal-adapter", "replicate-adapter", "log-sink")
    # Runs that end and call back while the database is down.
    await fleet.faults([{"prompt_contains": "finishes meanwhile", "action": {"run_s": 4}}])
    async with load.running(RATE):
        slow = [
            await load.submit("finishes meanwhile", providers=[name, other]) for name, other in ORDERS for _ in (1, 2)
        ]

        async def posted() -> bool:
            return all(before.bill_log.of_job(one.job_id) for one in slow)

        await wait_for("runs are under way", posted)
        called = await counts.since("segue_callbacks_total", outcome="taken")
        accepted = load.accepted
        await fleet.postgres.stop("immediate")
        await asyncio.sleep(fleet.scale.database_away_s + rng.uniform(0, 3))  # The outage itself is the fault.
        called = await counts.since("segue_callbacks_total", outcome="taken") - called
        accepted = load.accepted - accepted
        await fleet.postgres.start()
    assert not await load.drain(60)
    assert accepted, "no request was accepted without the database"
    assert called, "no callback was taken without the database"
    before.assert_same_processes()
    retried = int(await counts.since("segue_batch_retries_total"))
    paid = await before.unharmed()
    return [
        f"PostgreSQL crashed for {fleet.scale.database_away_s:.0f} s and more; no dead letter, no process ended",
        f"meanwhile {accepted} requests and {called:.0f} callbacks were taken, and batches held {retried} times",
        f"all {len(load.requests)} jobs ended; {paid}",
    ]


ORDERS: Final = (("fal", "replicate"), ("replicate", "fal"))


def _through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.listens_at}"))


async def _commit_cut(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    adapter, other = fleet.replicas("fal-adapter")
    url = fleet.env["DATABASE_URL"]
    port = urlsplit(url).port
    assert port is not None
    seen: list[str] = []
    await fleet.faults([{"prompt_contains": "answered once", "action": {"webhook": ["never"]}}])
    try:
        async with Proxy("127.0.0.1", port).running() as proxy:
            await asyncio.gather(adapter.kill(), other.kill())
            settings = {"DATABASE_URL": _through(proxy, url)}
            await adapter.start(**settings)
            await adapter.ready()
            async with load.running(RATE / 2):
                for lost, die in product(("COMMIT", "the answer to COMMIT"), (False, True)):
                    await _caught(load, proxy, delivered=lost != "COMMIT")
                    if die:
                        await adapter.kill()
                        await adapter.start(**settings)
                        await adapter.ready()
                    seen.append(f"{lost} lost{' and adapter killed' if die else ''}")
            assert not await load.drain(60)
    finally:
        # Restoring the fleet starts what is down, and does not change the settings of what runs.
        await adapter.kill()
        await asyncio.gather(adapter.start(), other.start())
    found = await resolved(fleet, bill_log, began, bool)
    posts, taken = await all_bound(fleet, bill_log)
    return [
        f"connection to the database reset with the answer to a POST on it, 4 times: {', '.join(seen)}",
        f"{describe(found)}; {taken} runs of {posts} attempts POSTed, each bound, none twice",
    ]


async def _caught(load: Load, proxy: Proxy, *, delivered: bool) -> None:
    """Reset the connection of the transaction that stores an answer to a POST."""
    trigger = proxy.trigger = ResetTrigger((AttemptSubmitted.TYPE.encode(), b"COMMIT"), delivered=delivered)
    await load.submit("answered once", providers=["fal", "replicate"])
    async with asyncio.timeout(30):
        await trigger.fired.wait()


LOCKED: Final = ("orchestrator.jobs", "fal_adapter.attempts", "replicate_adapter.attempts", "log_sink.jobs")


async def _no_way_in(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    async with load.running(RATE):
        await more_accepted(load, "before the locks")
        connection = await asyncpg.connect(fleet.env["DATABASE_URL"])
        try:
            async with connection.transaction():
                for table in LOCKED:
                    await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(fleet.scale.locked_s)  # The locks themselves are the fault.
        finally:
            await connection.close()
        await more_accepted(load, "after the locks")
        victim = rng.choice(fleet.replicas("fal-adapter"))
        await victim.kill()
        async with _all_connections(fleet) as taken_up:
            await victim.start()
            await asyncio.sleep(fleet.scale.locked_s)  # So is this.
        if not victim.running:
            await victim.start()
        await victim.ready()
        await more_accepted(load, "with free connections")
    assert not await load.drain(120)
    before.assert_same_processes(but=(victim.name,))
    paid = await before.unharmed()
    return [
        (
            f"{', '.join(LOCKED)} locked for {fleet.scale.locked_s:.0f} s; then all {taken_up} free connections "
            f"taken for as long, while {victim.name} started"
        ),
        f"all {len(load.requests)} requests ended; {paid}",
    ]


@asynccontextmanager
async def _all_connections(fleet: Fleet) -> AsyncIterator[int]:
    """Take every connection that PostgreSQL gives to an ordinary user, for the length of the block."""
    url = fleet.env["DATABASE_URL"]
    admin = await asyncpg.connect(url)
    held: list[asyncpg.Connection] = []
    try:
        await admin.execute("CREATE ROLE crowd LOGIN PASSWORD 'crowd'")
        parts = urlsplit(url)
        theirs = urlunsplit(parts._replace(netloc=f"crowd:crowd@{parts.netloc.rpartition('@')[2]}"))
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                held.append(await asyncpg.connect(theirs))
        yield len(held)
    finally:
        await asyncio.gather(*(one.close() for one in held))
        await admin.execute("DROP ROLE crowd")
        await admin.close()


async def _read_only(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    before = await Before.of(fleet)
    async with load.running(RATE):
        await more_accepted(load, "before")
        logs = log_sizes(fleet.folder, "logs/postgres.log")
        await _set_read_only(fleet, "on")
        try:
            accepted = load.accepted
            await asyncio.sleep(fleet.scale.locked_s)  # The fault itself.
            meanwhile = load.accepted - accepted
        finally:
            await _set_read_only(fleet, "off")
        await more_accepted(load, "with a database that takes writes again")
    assert logged_since(logs, "read-only transaction"), "PostgreSQL refused no transaction as read-only"
    assert not await load.drain(120)
    before.assert_same_processes()
    paid = await before.unharmed()
    return [
        (
            f"read-only for {fleet.scale.locked_s:.0f} s, as after a failover to a standby; {meanwhile} requests "
            "accepted meanwhile; no dead letter, no process ended"
        ),
        f"all {len(load.requests)} requests ended; {paid}",
    ]


async def _set_read_only(fleet: Fleet, value: str) -> None:
    connection = await asyncpg.connect(fleet.env["DATABASE_URL"])
    try:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


ROWS = {
    row.number: row
    for row in (
        Row(
            19, "PostgreSQL crashes", "consumers hold, no dead letters; callbacks wait in Kafka", _crash, unsettles=True
        ),
        Row(
            20,
            "Tables locked; connections exhausted",
            "consumers wait, no process ends, no dead letters",
            _no_way_in,
            unsettles=True,
        ),
        Row(21, "PostgreSQL lost between POST and commit", "resolved either way; 1 POST", _commit_cut, unsettles=True),
        Row(40, "PostgreSQL read-only", "consumers wait, no process ends, no dead letters", _read_only, unsettles=True),
    )
}
