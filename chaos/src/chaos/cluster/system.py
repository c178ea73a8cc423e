"""What the load and the evidence need of a system under test, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx


class Logged(Protocol):
    """A process whose log is read."""

    @property
    def name(self) -> str:
        """Its name, for example `fal-adapter-1`."""
        ...

    @property
    def log(self) -> Path:
        """The file of its log."""
        ...


class System(Protocol):
    """A running system."""

    @property
    def api(self) -> httpx.AsyncClient:
        """A client of its gateway."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """Its settings: KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL, among others."""
        ...

    @property
    def bills_file(self) -> Path:
        """The file in which the sandbox writes every POST and every bill."""
        ...

    @property
    def logged(self) -> Sequence[Logged]:
        """Its processes, including those that were removed."""
        ...
