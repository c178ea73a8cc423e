"""What a row of the fault matrix is to the program that runs it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.cluster.fleet import Fleet
    from chaos.load.clients import Load

RATE = 6.0
"""Requests a second while a row runs."""
TWICE = """
SELECT count(*) FROM (
    SELECT event_id FROM log_sink.events WHERE stored_at >= $1 GROUP BY event_id HAVING count(*) > 1
) AS twice
"""
GAPS = """
SELECT count(*) FROM (
    SELECT job_id FROM orchestrator.attempts GROUP BY job_id
    HAVING max(split_part(attempt_id, '.', 2)::int) <> count(*)
) AS gaps
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, how it is injected, and what must be seen.

    `run` returns what was seen, in words, and raises AssertionError where that is not what is expected. It may leave
    faults and dead replicas behind: who runs it heals, waits for quiet, and checks every job of the row afterwards.
    """

    number: int
    title: str
    expects: str
    run: Callable[[Fleet, Load, random.Random], Awaitable[list[str]]]
    dead_letters: bool = False
    """Whether the row buries messages on purpose, so that dead letters are no violation."""
    explains: frozenset[str] = frozenset()
    """Failure kinds that attempts may end by because of what the row injects, beside `never_accepted`."""
