"""The actions of the attempt machine: a step returns at most one, to be performed after the new state is committed.

An action that may be repeated carries the time of its step, `asked_at`, and its outcome carries it back: what a
provider says counts from the time at which it was asked, however late the outcome is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adapter_kit.port.outcomes import ProviderRef


@dataclass(frozen=True, slots=True)
class Post:
    """Submit the run by a POST. It is performed at most once, and only while the lease is held."""

    submission: int


@dataclass(frozen=True, slots=True)
class Check:
    """Request the status of the run `ref`."""

    ref: ProviderRef
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Cancel:
    """Request that the provider stop the run `ref`."""

    ref: ProviderRef
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Search:
    """Search the provider's listing for the run of a lost submit."""

    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Collect:
    """Copy the outputs into the artifact store."""

    asked_at: datetime


Action = Post | Check | Cancel | Search | Collect
