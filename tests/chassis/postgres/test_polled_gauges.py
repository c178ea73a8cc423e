"""Gauges that are read from tables: their values, one statement for all, and what happens while it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from tests.chassis.toy import TABLES, runtime_for
from tests.patience import eventually

from chassis.postgres import polled_gauges
from chassis.postgres.polled_gauges import OUTBOX_GAUGES, GaugeQuery, PolledGauges, due_gauge
from chassis.postgres.pool import Pool, open_pool

LEAVE = """
INSERT INTO outbox (topic, key, value, headers, event_id, created_at)
SELECT 't', '', '', '{}', gen_random_uuid(), at FROM unnest($1::timestamptz[]) AS at
"""
AGO = "SELECT array_agg(now() - make_interval(secs => ago)) FROM unnest($1::float8[]) AS ago"
DUE = """
CREATE TABLE waiting (next_action_at timestamptz);
INSERT INTO waiting VALUES (now() + interval '1 hour'), (NULL)
"""


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, "toy", max_size=2) as opened:
        await opened.execute(TABLES)
        await opened.execute(DUE)
        yield opened


def shown(name: str) -> float:
    value = REGISTRY.get_sample_value(name)
    assert value is not None
    return value


async def leave(pool: Pool, *ages_s: float) -> None:
    """Put rows of these ages into the outbox."""
    await pool.execute(LEAVE, await pool.fetchval(AGO, ages_s))


async def test_the_outbox_and_what_is_due_are_shown(pool: Pool) -> None:
    gauges = PolledGauges(pool, runtime_for(), OUTBOX_GAUGES, due_gauge("waiting"))
    await gauges.read()
    assert (shown("segue_outbox_rows"), shown("segue_outbox_oldest_seconds")) == (0, 0)
    assert shown("segue_due_oldest_seconds") == 0, "a row that is due later is not due"
    await leave(pool, 5, 90)
    await pool.execute("INSERT INTO waiting VALUES (now() - interval '40 seconds'), (now())")
    await gauges.read()
    assert shown("segue_outbox_rows") == 2
    assert 90 <= shown("segue_outbox_oldest_seconds") < 1000
    assert 40 <= shown("segue_due_oldest_seconds") < 1000
    await pool.execute("DELETE FROM outbox; DELETE FROM waiting")
    await gauges.read()
    assert [shown(f"segue_{name}") for name in ("outbox_rows", "outbox_oldest_seconds", "due_oldest_seconds")] == [
        0
    ] * 3


async def test_a_row_that_kafka_never_accepts_counts_and_has_no_age(pool: Pool) -> None:
    await leave(pool, 0)
    await pool.execute("UPDATE outbox SET created_at = 'infinity'")
    await PolledGauges(pool, runtime_for(), OUTBOX_GAUGES).read()
    assert (shown("segue_outbox_rows"), shown("segue_outbox_oldest_seconds")) == (1, 0)


async def test_all_values_are_of_one_statement(pool: Pool) -> None:
    values: list[object] = []
    queries = [GaugeQuery("SELECT statement_timestamp()::text", values.append)] * 2
    await PolledGauges(pool, runtime_for(), *queries, GaugeQuery("SELECT '[1, null]'::jsonb", values.append)).read()
    assert values[0] == values[1]
    assert values[2] == [1, None], "JSON is decoded"


async def test_a_failure_is_logged_leaves_the_values_and_ends_nothing(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polled_gauges, "EVERY_S", 0.02)
    runtime = runtime_for()
    await leave(pool, 7, 7, 7)

    async def rows(count: float) -> bool:
        return shown("segue_outbox_rows") == count

    with capture_logs() as logs:

        async def failed() -> bool:
            return any(line["event"].code == "gauges_not_read" for line in logs)

        async with PolledGauges(pool, runtime, OUTBOX_GAUGES).running():
            await eventually(lambda: rows(3), 20)
            await pool.execute("ALTER TABLE outbox RENAME TO away")
            await eventually(failed, 20)
            assert (shown("segue_outbox_rows"), runtime.unhealthy()) == (3, None)
            await pool.execute("DELETE FROM away; ALTER TABLE away RENAME TO outbox")
            await eventually(lambda: rows(0), 20)
            runtime.stopping.set()
    assert {line["log_level"] for line in logs} == {"warning"}
