"""What a service depends on, as it saw that last: noted where it is used, so that nothing is asked for a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Literal

Status = Literal["ok", "fail", "unknown"]

NOT_USED: Final = "not used yet"


@dataclass(frozen=True, slots=True)
class Seen:
    """How a dependency was last seen. Times are those of the monotonic clock, in seconds."""

    status: Status
    since: float
    """When the status was first seen."""
    at: float
    """When it was last seen."""
    reason: str | None = None
    """Why it is not ok, on one line, without addresses."""

    def described(self) -> dict[str, Any]:
        """The state for a report, with the times as ages in seconds."""
        now = monotonic()
        ages = {"for_s": round(now - self.since), "seen_s": round(now - self.at)}
        return {"status": self.status, **ages, **({"reason": self.reason} if self.reason else {})}


class Dependency:
    """Something that this process depends on, and how it was last seen."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        now = clock()
        self.seen = Seen("unknown", now, now, NOT_USED)

    def works(self) -> None:
        """Note that it has just done what was asked."""
        self._note("ok", None)

    def fails(self, reason: str) -> None:
        """Note that it has just failed, and why, on one line without addresses and secrets."""
        self._note("fail", reason)

    def _note(self, status: Status, reason: str | None) -> None:
        now = self._clock()
        since = self.seen.since if self.seen.status == status else now
        self.seen = Seen(status, since, now, reason)


def failed_with(error: BaseException) -> str:
    """The reason for a failure: the type of the error alone, since its text may contain addresses."""
    return f"the last use failed: {type(error).__name__}"


def described(dependencies: Mapping[str, Seen]) -> dict[str, dict[str, Any]]:
    """The dependencies by name, for a report."""
    return {name: seen.described() for name, seen in dependencies.items()}
