"""`segue migrate`: the schemas of all services, and waiting for them."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from tests.patience import eventually

from segue_cli.stack.migrations import SCHEMAS, apply_migrations

SESSIONS = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
"""The number of sessions that the database has had."""


async def test_every_schema_is_made_and_a_second_time_changes_nothing(shell: Any, database_url: str) -> None:
    named = await asyncio.to_thread(shell.run, "migrate", "log-sink", env={"DATABASE_URL": database_url})
    assert named.returncode == 0, named.stdout
    assert [line.partition(":")[0] for line in named.stdout.splitlines() if ": at " in line] == ["log_sink"]
    for _ in range(2):
        done = await asyncio.to_thread(shell.run, "migrate", env={"DATABASE_URL": database_url})
        assert done.returncode == 0, done.stdout
        said = [line for line in done.stdout.splitlines() if ": at " in line]
        assert [line.partition(":")[0] for line in said] == list(SCHEMAS)


async def test_waiting_ends_once_the_schema_is_there(shell: Any, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    before = await connection.fetchval(SESSIONS)
    waiting = asyncio.create_task(
        asyncio.to_thread(shell.run, "migrate", "gateway", "--wait", "300", env={"DATABASE_URL": database_url})
    )

    async def looked() -> bool:
        # The first look has ended by the time of the second.
        return bool(await connection.fetchval(SESSIONS) >= before + 2)

    await eventually(looked, what="the command has looked and found no schema")
    assert not waiting.done()
    await apply_migrations(database_url, {"gateway": "gateway"}, lambda _schema, _migration: None)
    done = await waiting
    await connection.close()
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "gateway"), done.stdout


def test_a_database_that_does_not_answer_is_named(shell: Any) -> None:
    done = shell.run("migrate", "--wait", "0", env={"DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/x"})
    assert (done.returncode, done.stdout.count("\n")) == (75, 1)
    assert "no connection to 127.0.0.1:1/x" in done.stdout
    assert "secret" not in done.stdout
    assert "segue migrate" not in done.stdout


async def test_waiting_says_what_is_missing_and_makes_nothing(shell: Any, database_url: str) -> None:
    done = await asyncio.to_thread(shell.run, "migrate", "--wait", "0", env={"DATABASE_URL": database_url})
    assert done.returncode == 75
    assert "schema orchestrator is at nothing, not yet at 0" in done.stdout


def test_without_a_database_one_line_says_so(shell: Any) -> None:
    for words, said in (((), "DATABASE_URL is not set"), (("nothing",), "there is no schema 'nothing'")):
        done = shell.run("migrate", *words)
        assert (done.returncode, done.stdout.count("\n")) == (78, 1)
        assert said in done.stdout
