"""The definition of a row of the fault matrix."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.cluster.fleet import Fleet
    from chaos.load.clients import Load

RATE = 6.0
"""Requests per second while a row runs."""
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
    """One fault, how it is injected, and the expected result.

    `run` returns its observations as text, and raises AssertionError if they differ from the expectation. It may leave
    faults and dead replicas behind: the caller restores the system, waits until it is idle, and checks every job of the
    row.
    """

    number: int
    title: str
    expects: str
    run: Callable[[Fleet, Load, random.Random], Awaitable[list[str]]]
    dead_letters: frozenset[str] = frozenset()
    """The services that produce dead letters on purpose, so that these are no violation."""
    explains: frozenset[str] = frozenset()
    """Failure kinds that the row's fault explains, at any time in the row."""
    provider: str | None = None
    """The only provider at which it explains them; None for both."""
    unsettles: bool = False
    """Whether its fault is one of the database, the brokers, the network or the machine, on which all services depend.
    Faults of single processes are noted as they happen."""
    without_kafka: bool = False
    """Whether requests are refused for `brokers_away_s`: if clients try for less, they may give up, and jobs expire."""
    longer_s: float = 0.0
    """Seconds by which it may take longer than other rows."""
    earlier_release: bool = False
    """Whether it needs the installation of an earlier release; without one it is left out of all rows."""
    small_disks: bool = False
    """Whether it needs PostgreSQL and Kafka on disks of their own, which it fills."""
