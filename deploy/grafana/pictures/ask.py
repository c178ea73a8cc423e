"""What every panel of every dashboard finds in a Prometheus and a PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import asyncpg
import httpx

from boards.files import FOLDER as DASHBOARDS
from boards.queries import Json
from pictures.frames import exemplars, of_postgres, of_prometheus
from pictures.macros import Shown, variables_of

STEP_S: Final = 5
LIMIT_S: Final = 10
"""Seconds that an answer of a system with a fault may take."""
NEWEST: Final = """
    SELECT job_id FROM log_sink.v_attempts
    GROUP BY job_id ORDER BY bool_or(error_kind = 'output_lost') DESC NULLS LAST, count(*) DESC, job_id LIMIT 1
"""
"""The job that "jobs" shows in full."""

Database: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Say = Callable[[str], None]


async def ask(
    prometheus: httpx.AsyncClient,
    database: Database | None,
    since: datetime,
    until: datetime,
    *,
    say: Say,
    forgive: bool = False,
) -> dict[str, Json]:
    """Each dashboard with the frames of each panel.

    Without a database its panels stay empty. With `forgive` a query that fails is said, and its panel stays empty;
    else it raises httpx.HTTPError, asyncpg.PostgresError or OSError.
    """

    async def frames_of(target: Json, shown: Shown) -> list[Json]:
        try:
            return await _frames(target, prometheus, database, shown, say)
        except (httpx.HTTPError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not forgive:
                raise
            say(f"no answer: {error!r:.200}")
            return []

    found: dict[str, Json] = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text("utf-8"))
        chosen = {"job": await _newest(database, forgive=forgive)}
        shown = Shown(since, until, STEP_S, variables_of(board), chosen)
        frames: dict[str, list[Json]] = {}
        for panel in board["panels"]:
            targets = panel.get("targets", [])
            frames[str(panel["id"])] = [frame for target in targets for frame in await frames_of(target, shown)]
        ends = {"from": round(since.timestamp() * 1000), "to": round(until.timestamp() * 1000)}
        found[path.stem] = {"dashboard": board, "frames": frames, "range": ends, "chosen": chosen}
    return found


async def ask_running(prometheus_url: str, database_url: str, minutes: float, say: Say) -> dict[str, Json]:
    """The same of a system that runs, whatever is wrong with it, for the last minutes."""
    until = datetime.now(UTC)
    database: Database | None = None
    with suppress(OSError, asyncpg.PostgresError):
        database = await asyncpg.connect(database_url, timeout=LIMIT_S, command_timeout=LIMIT_S)
    if database is None:
        say("the database does not answer: its panels stay empty")
    async with httpx.AsyncClient(base_url=prometheus_url, trust_env=False, timeout=LIMIT_S) as prometheus:
        found = await ask(prometheus, database, until - timedelta(minutes=minutes), until, say=say, forgive=True)
    if database is not None:
        database.terminate()
    return found


async def _newest(database: Database | None, *, forgive: bool) -> str:
    try:
        return str(await database.fetchval(NEWEST)) if database is not None else ""
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        if not forgive:
            raise
        return ""


async def _frames(
    target: Json, prometheus: httpx.AsyncClient, database: Database | None, shown: Shown, say: Say
) -> list[Json]:
    if target["datasource"]["type"] != "prometheus":
        return [] if database is None else await of_postgres(database, target, shown)
    if target["exemplar"]:
        say(f"{await exemplars(prometheus, target, shown)} exemplars of {target['expr'][:60]} …")
    return await of_prometheus(prometheus, target, shown)
