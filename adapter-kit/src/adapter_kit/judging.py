"""How a provider's error becomes one of Segue's failure kinds: a table of rows, of which the first that fits counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapter_kit.outcomes import Failure
from adapter_kit.wire import words
from contracts.failures import FailureKind


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a provider said of a failure: the HTTP status, headers in lower case, its own error types, its words."""

    message: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    code: str | None = None
    """The provider's name for it; the first type where it has none other."""


@dataclass(frozen=True, slots=True)
class Row:
    """Errors that mean `kind`. Every condition that is given has to hold; with none given the row fits all."""

    kind: FailureKind
    status: tuple[int, int] | int | None = None
    """An HTTP status, or the first and the last of several."""
    types: frozenset[str] = frozenset()
    """One of the error's types is among these."""
    says: str | None = None
    """A regular expression that is found in the message, in any case of letters."""
    header: tuple[str, str] | None = None
    """A header in lower case, and its value."""

    def fits(self, evidence: Evidence) -> bool:
        """Whether the evidence meets every condition."""
        return (
            self._status_fits(evidence.status)
            and (not self.types or not self.types.isdisjoint(evidence.types))
            and (self.says is None or re.search(self.says, evidence.message, re.IGNORECASE) is not None)
            and (self.header is None or evidence.headers.get(self.header[0]) == self.header[1])
        )

    def _status_fits(self, status: int | None) -> bool:
        if self.status is None:
            return True
        if status is None:
            return False
        low, high = (self.status, self.status) if isinstance(self.status, int) else self.status
        return low <= status <= high


def judge(rows: Sequence[Row], evidence: Evidence) -> Failure:
    """The failure that the evidence shows; of a kind that no row knows, it is `unknown` and kept in its own words."""
    kind = next((row.kind for row in rows if row.fits(evidence)), FailureKind.UNKNOWN)
    code = evidence.code or next(iter(evidence.types), None)
    return Failure(kind, words(evidence.message), words(code)[:200] if code else None, evidence.status)
