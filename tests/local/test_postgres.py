"""The embedded PostgreSQL: it can be connected to and restarted, is private if kept, and leaves nothing otherwise."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from tests.patience import eventually
from tests.users import let_others_enter

from segue_cli.local.postgres import postgres
from segue_cli.local.postgres_programs import CannotRunHere, enterable
from segue_cli.local.process import child, ready_with


async def test_a_throwaway_server_recovers_from_a_crash_and_leaves_nothing() -> None:
    async with postgres() as server:
        folder = Path(server.restart_command[2])
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("show max_connections") == "200"
        await connection.execute("create table kept (n int)")
        first = server.pid
        await server.stop("immediate")
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await asyncpg.connect(server.url)
        await server.start()
        assert server.pid != first
        again = await asyncpg.connect(server.url)
        assert await again.fetchval("select count(*) from kept") == 0
        await again.close()
        pid = server.pid
    assert not exists(folder)
    assert not exists(Path(f"/proc/{pid}"))


async def test_a_kept_server_asks_for_its_password_and_finds_its_data_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = open_to_all(tmp_path_factory) / "state"
    async with postgres(folder, durable=True) as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("show fsync") == "on"
        await connection.execute("create table kept as select 7 as n")
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url, password="guess")
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    async with postgres(folder, durable=True) as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("select n from kept") == 7
        await connection.close()


async def test_a_killed_parent_leaves_neither_server_nor_folder() -> None:
    parent = """
import asyncio, json
from segue_cli.local.postgres import postgres
async def main():
    async with postgres() as server:
        print(json.dumps({"pid": server.pid, "data": server.restart_command[2]}), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    async with child([sys.executable, "-c", parent], name="parent", ready=ready_with("pid")) as process:
        await process.stop(signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{process.ready['pid']}").exists())
    await until(lambda: not Path(process.ready["data"]).parent.exists())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the data to another user")
async def test_a_folder_that_the_other_user_cannot_enter_is_refused_with_a_message(tmp_path: Path) -> None:
    # pytest's temporary folders can be entered only by their owner
    with pytest.raises(CannotRunHere, match="another folder"):
        async with postgres(tmp_path / "state"):
            pytest.fail("it can't have started")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the binaries to another user")
async def test_binaries_that_the_other_user_cannot_enter_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "segue_cli.local.postgres_programs.enterable",
        lambda path, user: "site-packages" not in path.parts and enterable(path, user),
    )
    async with postgres() as server:
        assert "site-packages" not in Path(server.restart_command[0]).parts
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("select 1") == 1
        await connection.close()


def open_to_all(factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that another user may enter, unlike pytest's own."""
    folder = factory.mktemp("postgres")
    let_others_enter(folder)
    return folder


def exists(path: Path) -> bool:
    """Whether the path exists; outside the coroutine, where blocking calls are not allowed."""
    return path.exists()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other processes fulfil."""

    async def holds() -> bool:
        return condition()

    await eventually(holds)
