"""A connection pool that knows how its database was last seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg

from chassis.runtime.dependencies import Dependency

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Pool = asyncpg.Pool

_DEFAULTS: Final[dict[str, Any]] = {
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "loop": None,
    "connection_class": asyncpg.Connection,
    "record_class": asyncpg.Record,
}
"""Those of `asyncpg.create_pool`, which makes no pool of another class."""


class ObservedPool(Pool):
    """A pool with how its database was last seen, as `chassis.postgres.limits` notes it."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{**_DEFAULTS, **how})
        self.database = Dependency()
