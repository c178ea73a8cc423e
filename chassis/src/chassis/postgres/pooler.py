"""Connections through a pooler that may run each transaction in another session, such as PgBouncer.

Session state does not outlive a transaction there: prepared statements, settings, session locks. So every statement
runs in a transaction that starts with the settings. https://www.pgbouncer.org/features.html
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
    """A class of connections whose transactions start with these settings."""
    assignments = "".join(f"; {_assignment(name, value)}" for name, value in settings.items())

    class PooledConnection(_Pooled):
        __slots__ = ()
        begin = assignments

    return PooledConnection


class _Pooled(BaseConnection):
    __slots__ = ()
    begin = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if query.startswith(_BEGIN):  # It comes from asyncpg's transaction; the settings are sent with it.
            return await super().execute(f"{query.rstrip(';')}{self.begin}", timeout=timeout)
        if query.startswith(_OF_A_TRANSACTION):
            return await super().execute(query, timeout=timeout)
        async with self._in_transaction():
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        async with self._in_transaction():
            await super().executemany(command, args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, **more: Any) -> list[Any]:
        async with self._in_transaction():
            rows: list[Any] = await super().fetch(query, *args, **more)
            return rows

    async def fetchval(self, query: str, *args: Any, **more: Any) -> Any:
        async with self._in_transaction():
            return await super().fetchval(query, *args, **more)

    async def fetchrow(self, query: str, *args: Any, **more: Any) -> Any:
        async with self._in_transaction():
            return await super().fetchrow(query, *args, **more)

    def _in_transaction(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext() if self.is_in_transaction() else self.transaction()


def _assignment(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "''")
    return f"SET LOCAL {name} = E'{quoted}'"
