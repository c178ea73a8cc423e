"""A fault, the alerts that it has to raise, and those that it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from chaos.alerts.bench import Bench


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault. It is there for the length of the block that `fault` opens."""

    name: str
    says: str
    """The fault, as the table has it."""
    expected: frozenset[str]
    may: Mapping[str, str] = field(default_factory=dict)
    """Alerts that may fire besides, each with the reason: what the fault does, and no false alarm."""
    fault: Callable[[Bench], AbstractAsyncContextManager[None]]
    of: str | None = None
    """A label that every alert has to have, such as the provider that is at fault; None: any."""
    within_s: float = 75
    """Seconds in which every expected alert has to fire."""
    clear_s: float = 150
    """Seconds after the fault in which every alert has to end."""


def case(
    name: str,
    says: str,
    *expected: str,
    fault: Callable[[Bench], AbstractAsyncContextManager[None]],
    may: Mapping[str, str] | None = None,
    of: str | None = None,
    within_s: float = 75,
    clear_s: float = 150,
) -> Case:
    """A case by the short names of alerts, without `Segue`."""
    return Case(
        name=name,
        says=says,
        expected=frozenset(f"Segue{each}" for each in expected),
        may={f"Segue{each}": why for each, why in (may or {}).items()},
        fault=fault,
        of=of,
        within_s=within_s,
        clear_s=clear_s,
    )
