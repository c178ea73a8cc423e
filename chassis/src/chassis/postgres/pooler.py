"""Connections through a pooler that gives each transaction another session of the server, as PgBouncer can.

Nothing that belongs to a session outlives a transaction there: no prepared statement, no setting, no session's lock.
So every statement runs in a transaction, which begins with the settings. https://www.pgbouncer.org/features.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    BaseConnection = asyncpg.Connection[asyncpg.Record]
else:
    BaseConnection = asyncpg.Connection

_BEGIN: Final = "BEGIN"
_OF_A_TRANSACTION: Final = ("COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def pooled_connection(settings: Mapping[str, str]) -> type[BaseConnection]:
    """A class of connections whose transactions all begin with these settings."""
    assignments = "".join(f"; {_assignment(name, value)}" for name, value in settings.items())

    class PooledConnection(_Pooled):
        __slots__ = ()
        begin = assignments

    return PooledConnection


class _Pooled(BaseConnection):
    __slots__ = ()
    begin = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if query.startswith(_BEGIN):  # It comes from asyncpg's own transaction, and goes out in one piece.
            return await super().execute(f"{query.rstrip(';')}{self.begin}", timeout=timeout)
        if query.startswith(_OF_A_TRANSACTION):
            return await super().execute(query, timeout=timeout)
        async with self._within():
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        async with self._within():
            await super().executemany(command, args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, **more: Any) -> list[Any]:
        async with self._within():
            rows: list[Any] = await super().fetch(query, *args, **more)
            return rows

    async def fetchval(self, query: str, *args: Any, **more: Any) -> Any:
        async with self._within():
            return await super().fetchval(query, *args, **more)

    async def fetchrow(self, query: str, *args: Any, **more: Any) -> Any:
        async with self._within():
            return await super().fetchrow(query, *args, **more)

    def _within(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext() if self.is_in_transaction() else self.transaction()


def _assignment(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "''")
    return f"SET LOCAL {name} = E'{quoted}'"
