"""How a provider's error becomes one of Segue's failure kinds: a table of rows, of which the first that fits counts.

What the rows leave open is decided by the provider's words, where those name a mistake of the caller (`phrases`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.sanitize import sanitize
from adapter_kit.phrases.reading import heard, kind_in, speaks_of_service
from adapter_kit.phrases.vocabulary import FIELD, PARAMETER
from adapter_kit.port.outcomes import Failure
from contracts.failures import FailureKind
from contracts.providers.registry import PROVIDERS

MOST_DEPTH: Final = 8
MOST_TEXTS: Final = 100
MOST_SAID: Final = 10_000

_WRONG: Final = (
    r"(?:invalid|malformed|unreachable|unsupported|bad|missing|empty|insecure|private|required|only|must|should|cannot"
    r"|can't|can ?not|could|unable|unknown|not|fail\w*|block\w*|refus\w*|reject\w*|den(?:y|ied)|disallow\w*|forbid\w*"
    r"|error|is|was|url)"
)
_PREFIX: Final = "|".join(re.escape(spec.parameter_prefix) for spec in PROVIDERS.values() if spec.parameter_prefix)
_ADDRESS: Final = (
    rf"(?:{_PREFIX})?(?:webhooks?(?:_\w+)?|callback(?:[ _]?(?:url|uri|address|endpoint))"
    r"|(?:^|(?<=[-.;:`'\"]) ?)callback)"
)

ABOUT_CALLBACK: Final = (
    rf"^(?!.*\b(?:input|body|prompt|lyrics|song|text)\b)"
    rf"(?:.*\b{_WRONG}\b.{{0,60}}?(?<![\w.]){_ADDRESS}\b|.*?(?<![\w.]){_ADDRESS}(?:\.\d+)?['\"`]?(?::|.{{0,60}}?\b{_WRONG}\b))"
    r"|\bE4875\b"
)
"""A regular expression for a line about the address at which the provider is to call back, which Segue chose.

Source: https://replicate.com/docs/reference/error-codes (E4875); of a field named `webhook` a provider says,
as of any other, that it "Does not match format 'uri'".
"""
ABOUT_ACCESS: Final = (
    r"\b(?:permissions?|(?:api|access|auth\w*|bearer|invalid|valid|your|this|the) (?:\w+ )?(?:key|token)|credentials?"
    r"|access to|not have access|no access|lacks? access|not authori[sz]ed|unauthori[sz]ed|scopes?|plan|subscription"
    r"|organi[sz]ation|account|allow-?list|enterprise|gated|licen[cs]e|accept the terms)\b"
)
"""A regular expression for words about a key, access or a plan: of these the next request would be told the same."""
_ROUTE: Final = r"(?:application|app|(?<!voice )model|version|endpoint|path|route|deployment)"
ABOUT_MODEL: Final = (
    rf"\b{_ROUTE}s?(?: (?:with |id |named |name |hash )*(?!\S*(?:input|output|file|voice|audio|prompt))\S+)?,? "
    r"(?:(?:was|is|were|has been|could|does|do|can) )?(?:\w+ )?(?:not (?:be )?(?:found|exist|available|known)|n't exist"
    r"|removed|disabled|retired|deprecated|withdrawn|taken down|no longer)"
    rf"|\b(?:no such|unknown|no) {_ROUTE}\b|\bnot[ _]found: {_ROUTE}|\bcannot (?:get|post) /"
    r"|^\W*(?:the )?requested resource (?:could not be|was not) found|^\W*(?:404:? )?not found\W*$"
)
"""A regular expression for words about a model or a path that is not there, or a provider's own text of its 404."""

_LEFT_OUT: Final = re.compile(
    r"inputs?|arguments|prompt|lyrics|payload|.*suggest.*|.*ur[il]s?|id|.*_id|loc|logs|metrics|version|model|example.*",
    re.IGNORECASE,
)
"""Names of fields that hold what the caller wrote, or no words."""
_ECHOING: Final = re.compile(r"inputs?|arguments|prompt|lyrics|payload", re.IGNORECASE)
_WORDLESS: Final = re.compile(r".+_id|(?!.*(?:help|docs?|more|type)).*ur[il]s?", re.IGNORECASE)
_COMPLAINTS: Final = re.compile(
    r"(?:\w+_)?errors?|detail|details|messages?|invalid_(?:fields|params)|issues|problems|fields|title|msg|reason|status",
    re.IGNORECASE,
)
"""Names of fields that hold what a provider finds wrong; a field within is one of the caller's, with what is wrong."""
_OF_ONE: Final = frozenset({"msg", "message", "loc", "description", "code"})
"""Names of which a single error has some, beside the caller's input."""
_NAMED: Final = ("field", "param", "parameter", "path", "property")
_FIELD: Final = re.compile(rf"{FIELD}|{PARAMETER}", re.IGNORECASE)
_LINE_OF: Final = re.compile(r"^\W{0,3}((?:body|input|webhook)\w*(?:\.\w+)*)(?=: )", re.MULTILINE)
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)


@dataclass(frozen=True)
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
    fields: tuple[str, ...] = ()
    """The fields that it is about, where it names them as such, with the place that they are in."""

    @property
    def is_page(self) -> bool:
        """Whether it is a page or the like, as proxies send it, and not the provider's own word."""
        return _PAGE.match(self.message) is not None

    @cached_property
    def heard(self) -> str:
        """All that it said in words of its own, of bounded length."""
        return heard((self.message, *self.said), self.echoed)

    @cached_property
    def kind_said(self) -> FailureKind | None:
        """The caller's mistake that its words name."""
        return None if self.is_page else kind_in(self.heard)

    @cached_property
    def speaks_of_service(self) -> bool:
        """Whether its words are about a service that failed."""
        return speaks_of_service(self.heard)

    def is_about(self, pattern: str) -> bool:
        """Whether a field that the pattern describes is among those that it names."""
        return any(re.fullmatch(pattern, name) for name in self.fields)

    def names(self, pattern: str) -> bool:
        """Whether it says what the pattern describes, in words of the provider's own."""
        return re.search(pattern, self.heard, re.IGNORECASE | re.MULTILINE) is not None


@dataclass(frozen=True, slots=True)
class Row:
    """Errors that mean `kind`. Every condition that is given has to hold; with none given the row fits all."""

    kind: FailureKind
    status: tuple[int, int] | int | None = None
    """An HTTP status, or the first and the last of several."""
    types: frozenset[str] = frozenset()
    """One of the error's types is among these."""
    says: str | None = None
    """A regular expression that is found in its words, in any case of letters."""
    field: str | None = None
    """A regular expression for a field that it is about."""
    of_whole: bool = False
    """It names no field: a field that is called like what the words are about is an input of a model's."""
    of_service: bool = False
    """Its words are about a service that failed."""
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
            and (self.field is None or evidence.is_about(self.field))
            and (not self.of_whole or not evidence.fields)
            and (self.says is None or evidence.names(self.says))
            and (not self.of_service or evidence.speaks_of_service)
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
    if row is None or row.yields:
        kind = evidence.kind_said or kind
    code = evidence.code or next(iter(evidence.types), None)
    return Failure(kind, sanitize(evidence.message), sanitize(code)[:200] if code else None, evidence.status)


def listed_errors(document: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    """The single errors of an answer whose `detail` lists them, as FastAPI writes them: `loc`, `msg`, `type`."""
    listed = document.get("detail")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def describe(error: Mapping[str, JsonValue]) -> str:
    """A single error of such a list in one line, with the place that it is about."""
    place, said = error.get("loc"), error.get("msg") or error.get("type")
    where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    return ": ".join(text for text in (where, said) if isinstance(text, str) and text)


def places_of(errors: Sequence[Mapping[str, JsonValue]]) -> tuple[str, ...]:
    """The fields that listed errors are about, such as `body.prompt`; none for one about the request as a whole."""
    places = [error.get("loc") for error in errors]
    return tuple(
        ".".join(map(str, place)) for place in places if isinstance(place, list) and [str(part) for part in place][1:]
    )


def places_said(text: str) -> tuple[str, ...]:
    """The fields that lines begin with, as in "- input.prompt: is required"."""
    return tuple(found[1] for found in _LINE_OF.finditer(text[:MOST_SAID]))


def texts_in(said: JsonValue, asked: Sequence[str] | None = None) -> tuple[str, ...]:
    """What a provider says somewhere in a JSON value, without what only repeats the caller's input.

    With `asked`, what the caller wrote, it is an error that is read: a field of the caller's own name may hold what is
    wrong with it, as in {"lyrics": ["too long"]}, unless what it holds was asked for.
    """
    return _first(name + text for name, text in _texts(said, asked, 0, complains=False))


def echoes_in(said: JsonValue, asked: Sequence[str] | None = None) -> tuple[str, ...]:
    """What the caller wrote, as far as a provider repeats it in fields of their own."""
    told = {text for _, text in zip(range(MOST_TEXTS), (text for _, text in _texts(said, asked, 0)), strict=False)}
    return tuple(text for text in _first(_echoes(said, 0)) if text not in told)


def strings_in(asked: JsonValue) -> tuple[str, ...]:
    """Every text in what was asked for."""
    return _first(_strings(asked, 0))


def _first(texts: Iterator[str]) -> tuple[str, ...]:
    return tuple(text for text, _ in zip(texts, range(MOST_TEXTS), strict=False))


def _texts(
    said: JsonValue, asked: Sequence[str] | None, depth: int, *, complains: bool = False
) -> Iterator[tuple[str, str]]:
    """Texts, each with the name of the caller's field that it is about."""
    if isinstance(said, str) and said.strip():
        yield "", said
    elif depth < MOST_DEPTH and isinstance(said, list):
        for item in said:
            yield from _texts(item, asked, depth + 1, complains=complains)
    elif depth < MOST_DEPTH and isinstance(said, dict):
        complains = complains and _OF_ONE.isdisjoint(said)
        if depth == 0 and not any(_COMPLAINTS.fullmatch(name) for name in said):
            complains = all(isinstance(value, str | list) for value in said.values())
        of_item = next((name for key in _NAMED if isinstance(name := said.get(key), str)), "")
        for name, value in said.items():
            if not _LEFT_OUT.fullmatch(name):
                within = complains or _COMPLAINTS.fullmatch(name) is not None
                about = (
                    next((f"{each}: " for each in (name, of_item) if _FIELD.fullmatch(each)), "")
                    if asked is not None
                    else ""
                )
                yield from ((about + of, text) for of, text in _texts(value, asked, depth + 1, complains=within))
            elif asked is not None:
                yield from _complaints(name, value, asked, depth, complains=complains)


def _complaints(
    name: str, value: JsonValue, asked: Sequence[str], depth: int, *, complains: bool
) -> Iterator[tuple[str, str]]:
    """What is wrong with a field of the caller's, where that is what stands there, and not the caller's own words."""
    is_echoing, is_list = _ECHOING.fullmatch(name) is not None, isinstance(value, list)
    if not (complains or (is_list and name.lower() in ("prompt", "lyrics"))):
        return
    if is_echoing and isinstance(value, dict):
        yield from _texts(value, asked, depth + 1, complains=True)
    elif (is_echoing or _WORDLESS.fullmatch(name)) and not isinstance(value, dict):
        for text in _strings(value, depth + 1):
            if " " in text.strip() and not _is_of(text, asked):
                yield f"{name}: ", text


def _is_of(text: str, asked: Sequence[str]) -> bool:
    """Whether it is what was asked for, be it whole or cut off."""
    begun = text.strip().rstrip(".\u2026 ")
    return any(begun in given or (given and given in text and len(given) >= len(text) // 2) for given in asked)


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
