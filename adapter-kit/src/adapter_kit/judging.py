"""How a provider's error becomes one of Segue's failure kinds: a table of rows, of which the first that fits counts.

What the rows leave open is decided by the provider's words, where those name a mistake of the caller (`phrases`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from adapter_kit.outcomes import Failure
from adapter_kit.phrases.reading import kind_said, without_echo
from adapter_kit.wire import words
from contracts.failures import FailureKind

MOST_DEPTH: Final = 8
MOST_TEXTS: Final = 100

ABOUT_CALLBACK: Final = (
    r"(?:^|(?<!input)[\s.;:-])(?:fal_)?(?:webhook|callback)(?:_events_filter|[ _]?(?:url|uri|address|endpoint))?"
    r"(?:\.\d+)?['\"`]?\s?"
    r"(?::|(?:is|must|should|was|could|can ?not|has|does|not|url)\b)"
    r"|\b(?:invalid|malformed|unreachable|unsupported|bad|missing|empty|insecure|private)\s+(?:\w+\s+)?(?:fal_)?"
    r"(?:webhook|callback)\b|\bE4875\b"
)
"""A regular expression for words about the address at which the provider is to call back, which Segue chose.

Source: https://replicate.com/docs/reference/error-codes (E4875); of a field named `webhook` Replicate says, as of any
other, that it "Does not match format 'uri'".
"""

_LEFT_OUT: Final = re.compile(
    r"inputs?|arguments|prompt|lyrics|payload|.*suggest.*|.*ur[il]s?|id|.*_id|loc|logs|metrics|version|model|example.*",
    re.IGNORECASE,
)
"""Names of fields that hold what the caller wrote, or no words."""
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
_ECHOING: Final = re.compile(r"inputs?|arguments|prompt|lyrics|payload", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a provider said of a failure: the HTTP status, headers in lower case, its own error types, its words."""

    message: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    code: str | None = None
    """The provider's name for it; the first type where it has none other."""
    said: tuple[str, ...] = ()
    """What else it said, outside the message."""
    echoed: tuple[str, ...] = ()
    """What the caller wrote, which a provider may repeat: nothing in it is the provider's word."""

    @property
    def is_page(self) -> bool:
        """Whether it is a page or the like, as proxies send it, and not the provider's own word."""
        return _PAGE.match(self.message) is not None

    def names(self, pattern: str) -> bool:
        """Whether the message says what the pattern describes, in words of the provider's own."""
        return re.search(pattern, without_echo(self.message, self.echoed), re.IGNORECASE) is not None


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
    page: bool = False
    """It is a page of a proxy."""
    yields: bool = False
    """The error may carry words passed on from elsewhere: if they name a mistake of the caller, they decide."""

    def fits(self, evidence: Evidence) -> bool:
        """Whether the evidence meets every condition."""
        return (
            self._status_fits(evidence.status)
            and (not self.types or not self.types.isdisjoint(evidence.types))
            and (self.says is None or evidence.names(self.says))
            and (self.header is None or evidence.headers.get(self.header[0]) == self.header[1])
            and (not self.page or evidence.is_page)
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
    row = next((row for row in rows if row.fits(evidence)), None)
    kind = row.kind if row is not None else FailureKind.UNKNOWN
    if (row is None or row.yields) and not evidence.is_page:
        kind = kind_said((evidence.message, *evidence.said), evidence.echoed) or kind
    code = evidence.code or next(iter(evidence.types), None)
    return Failure(kind, words(evidence.message), words(code)[:200] if code else None, evidence.status)


def listed_errors(document: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    """The single errors of an answer whose `detail` lists them, as FastAPI writes them: `loc`, `msg`, `type`."""
    listed = document.get("detail")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def in_words(error: Mapping[str, JsonValue]) -> str:
    """A single error of such a list in one line, with the place that it is about."""
    place, said = error.get("loc"), error.get("msg") or error.get("type")
    where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    return ": ".join(text for text in (where, said) if isinstance(text, str) and text)


def texts_in(said: JsonValue) -> tuple[str, ...]:
    """What a provider says somewhere in a JSON value, without what only repeats the caller's input."""
    return _first(_texts(said, 0))


def echoes_in(said: JsonValue) -> tuple[str, ...]:
    """What the caller wrote, as far as a provider repeats it in fields of their own."""
    return _first(_echoes(said, 0))


def strings_in(asked: JsonValue) -> tuple[str, ...]:
    """Every text in what was asked for."""
    return _first(_strings(asked, 0))


def _first(texts: Iterator[str]) -> tuple[str, ...]:
    return tuple(text for text, _ in zip(texts, range(MOST_TEXTS), strict=False))


def _texts(said: JsonValue, depth: int) -> Iterator[str]:
    if isinstance(said, str) and said.strip():
        yield said
    elif depth < MOST_DEPTH and isinstance(said, list):
        for item in said:
            yield from _texts(item, depth + 1)
    elif depth < MOST_DEPTH and isinstance(said, dict):
        for name, value in said.items():
            if not _LEFT_OUT.fullmatch(name):
                yield from _texts(value, depth + 1)


def _echoes(said: JsonValue, depth: int) -> Iterator[str]:
    if depth >= MOST_DEPTH or not isinstance(said, dict | list):
        return
    for name, value in said.items() if isinstance(said, dict) else (("", item) for item in said):
        if _ECHOING.fullmatch(name):
            yield from _strings(value, depth + 1)
        else:
            yield from _echoes(value, depth + 1)


def _strings(value: JsonValue, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < MOST_DEPTH and isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item, depth + 1)
