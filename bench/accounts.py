"""What a piece of work costs: CPU time of each part, statements and commits of each service, connections."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import psutil

_LOGGED: Final = re.compile(r"^(?P<service>segue-[a-z_]+)\|LOG:  (?:statement|execute [^:]*): (?P<sql>.*)")
_LOG_ALL: Final = (
    "ALTER SYSTEM SET log_line_prefix = '%a|'",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SELECT pg_reload_conf()",
)
_LOG_NONE: Final = ("ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")


def cpu_s(pid: int) -> float:
    """CPU time in seconds that a process and all its descendants have used, ended ones included."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        ended = root.cpu_times()
        total += ended.children_user + ended.children_system
    return total


@dataclass(slots=True)
class CpuTime:
    """CPU time in seconds by part, of a block of work."""

    by_part: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Of all parts."""
        return sum(self.by_part.values())


@contextmanager
def cpu_of(parts: Mapping[str, int]) -> Iterator[CpuTime]:
    """The CPU time that the block takes of each process, given by part and process id; filled in at its end."""
    used = CpuTime()
    before = {part: cpu_s(pid) for part, pid in parts.items()}
    yield used
    used.by_part = {part: cpu_s(pid) - before[part] for part, pid in parts.items()}


@dataclass(slots=True)
class Statements:
    """Statements by service, without those that begin and end transactions, and commits by service."""

    statements: Counter[str] = field(default_factory=Counter)
    commits: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    """How often each statement ran, by service and text."""


class StatementLog:
    """Counts the statements that PostgreSQL runs, from its log."""

    def __init__(self, database_url: str, log: Path) -> None:
        self._database_url = database_url
        self._log = log

    async def start(self) -> int:
        """Have every statement logged from now on; returns where in the log that begins."""
        await self._run(_LOG_ALL)
        return self._log.stat().st_size

    async def stop(self, begin: int) -> Statements:
        """End it, and count what was logged since `begin`."""
        await self._run(_LOG_NONE)
        with self._log.open("rb") as file:
            file.seek(begin)
            return counted(file.read().decode(errors="replace").splitlines())

    async def _run(self, statements: tuple[str, ...]) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def counted(lines: list[str]) -> Statements:
    """The statements in lines of the server's log. A statement outside a transaction is a commit of its own."""
    found = Statements()
    within: Counter[str] = Counter()
    for line in lines:
        if (match := _LOGGED.match(line)) is None:
            continue
        service, sql = match["service"].removeprefix("segue-"), match["sql"].strip()
        verb = sql.partition(" ")[0].rstrip(";").upper()
        if verb == "BEGIN":
            within[service] += 1
        elif verb in ("COMMIT", "ROLLBACK"):
            within[service] -= 1
            found.commits[service] += verb == "COMMIT"
        else:
            found.statements[service] += 1
            found.texts[f"{service}: {sql[:80]}"] += 1
            found.commits[service] += not within[service]
    return found
