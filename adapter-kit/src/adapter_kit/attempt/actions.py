"""The actions of the attempt machine: what a step may ask for, one at a time, once the new state is committed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Post:
    """POST the run, once, while the lease is surely held; never otherwise."""

    submission: int


@dataclass(frozen=True, slots=True)
class Check:
    """Ask how the run stands."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask for the run to stop."""


@dataclass(frozen=True, slots=True)
class Search:
    """Look for the run in the provider's listing."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Copy the outputs into the artifact store."""


Action = Post | Check | Cancel | Search | Collect
