"""The actions of the attempt machine: a step returns at most one, to be performed after the new state is committed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Post:
    """Submit the run by a POST. It is performed at most once, and only while the lease is held."""

    submission: int


@dataclass(frozen=True, slots=True)
class Check:
    """Request the status of the run."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Request that the provider stop the run."""


@dataclass(frozen=True, slots=True)
class Search:
    """Search the provider's listing for the run of a lost submit."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Copy the outputs into the artifact store."""


Action = Post | Check | Cancel | Search | Collect
