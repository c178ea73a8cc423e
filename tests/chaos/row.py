"""What a row of the fault matrix is to the program that runs it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet import Fleet
    from load import Load


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
