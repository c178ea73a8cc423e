"""What a piece of work costs: CPU time of each part, statements and commits of each service, connections."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import psutil

_SERVICE: Final = "segue-"
_ENTRY: Final = re.compile(r"^(?P<name>[^|]*)\|(?P<session>\d+)\|(?P<level>[A-Z]+):  (?P<text>.*)")
_STATEMENT: Final = re.compile(r"^(?:statement|execute [^:]*):\s(?P<sql>.*)", re.DOTALL)
_LOG_ALL: Final = (
    "ALTER SYSTEM SET log_line_prefix = '%a|%p|'",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SELECT pg_reload_conf()",
)
_LOG_NONE: Final = ("ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
_LOGGED_WITHIN_S: Final = 60.0


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


Transaction = tuple[str, tuple[str, ...]]
"""A service, and the texts of the statements of one of its transactions."""


@dataclass(slots=True)
class Statements:
    """What services ran. A statement outside a transaction is a transaction of its own; one without any is left out."""

    committed: Counter[Transaction] = field(default_factory=Counter)
    rolled_back: Counter[Transaction] = field(default_factory=Counter)

    def without(self, others: Statements) -> Statements:
        """Those transactions that do not occur among the others."""
        known = self.committed.keys() & others.committed.keys() | self.rolled_back.keys() & others.rolled_back.keys()
        return Statements(
            Counter({one: n for one, n in self.committed.items() if one not in known}),
            Counter({one: n for one, n in self.rolled_back.items() if one not in known}),
        )

    def commits(self) -> Counter[str]:
        """Committed transactions by service."""
        found: Counter[str] = Counter()
        for (service, _), n in self.committed.items():
            found[service] += n
        return found

    def statements(self) -> Counter[str]:
        """Statements by service."""
        found: Counter[str] = Counter()
        for (service, texts), n in (self.committed + self.rolled_back).items():
            found[service] += n * len(texts)
        return found


class StatementLog:
    """Counts the statements that PostgreSQL runs, from its log."""

    def __init__(self, database_url: str, log: Path) -> None:
        self._database_url = database_url
        self._log = log

    async def start(self) -> int:
        """Have every statement logged from now on; returns where in the log that begins."""
        await self._run(*_LOG_ALL)
        return await self.mark()

    async def mark(self) -> int:
        """The place in the log behind all statements that have been answered. Raises TimeoutError after a minute."""
        begin = self._log.stat().st_size
        async with asyncio.timeout(_LOGGED_WITHIN_S):
            while True:
                word = secrets.token_hex(8)
                await self._run(f"SELECT '{word}'")
                for _ in range(20):
                    if (at := self._read(begin).find(word.encode())) >= 0:
                        return begin + at
                    await asyncio.sleep(0.005)

    def between(self, begin: int, end: int) -> Statements:
        """What was logged between two marks."""
        return counted(self._read(begin, end).decode(errors="replace").splitlines())

    async def stop(self, begin: int) -> Statements:
        """End it, and count what was logged since `begin`."""
        found = self.between(begin, await self.mark())
        await self._run(*_LOG_NONE)
        return found

    def _read(self, begin: int, end: int | None = None) -> bytes:
        with self._log.open("rb") as file:
            file.seek(begin)
            return file.read() if end is None else file.read(end - begin)

    async def _run(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def counted(lines: Iterable[str]) -> Statements:
    """The transactions of services in lines of the server's log."""
    found = Statements()
    open_ones: dict[str, list[str]] = {}
    """The statements of each session's open transaction."""
    for name, session, sql in _logged(lines):
        service, text = name.removeprefix(_SERVICE), " ".join(sql.split())
        verb = text.partition(" ")[0].rstrip(";").upper()
        if verb == "BEGIN":
            open_ones[session] = []
        elif verb in ("COMMIT", "ROLLBACK"):
            if texts := open_ones.pop(session, []):
                ended = found.committed if verb == "COMMIT" else found.rolled_back
                ended[service, tuple(texts)] += 1
        elif session in open_ones:
            open_ones[session].append(text)
        else:
            found.committed[service, (text,)] += 1
    return found


def _logged(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Application name, session and text of each statement of a service. Lines that begin with a tab continue one."""
    for name, session, entry in _entries(lines):
        if name.startswith(_SERVICE) and (match := _STATEMENT.match(entry)):
            yield name, session, match["sql"]


def _entries(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    name = session = ""
    entry: list[str] = []
    for line in lines:
        if line.startswith("\t"):
            entry.append(line)
        elif match := _ENTRY.match(line):
            if entry:
                yield name, session, "\n".join(entry)
            name, session = match["name"], match["session"]
            entry = [match["text"]] if match["level"] == "LOG" else []
    if entry:
        yield name, session, "\n".join(entry)
