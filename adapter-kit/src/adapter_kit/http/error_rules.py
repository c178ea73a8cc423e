"""Maps a provider's error to a failure kind with a table of rows; the first row that matches applies.

If no row matches, or the matching row `yields`, a caller's mistake named in the provider's text decides (`phrases`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.sanitize import sanitize
from adapter_kit.phrases.reading import is_about_service, kind_in, own_text
from adapter_kit.phrases.vocabulary import FIELD, PARAMETER
from adapter_kit.port.outcomes import Failure
from contracts.failures import FailureKind
from contracts.providers.registry import PROVIDERS

MOST_DEPTH: Final = 8
MAX_TEXTS: Final = 100
MAX_SCANNED_CHARS: Final = 10_000

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
"""A regular expression for a line about the callback URL, which Segue chose.

Source: https://replicate.com/docs/reference/error-codes (E4875). A field named `webhook` gets the same validation
messages as other fields, such as "Does not match format 'uri'".
"""
ABOUT_ACCESS: Final = (
    r"\b(?:permissions?|(?:api|access|auth\w*|bearer|invalid|valid|your|this|the) (?:\w+ )?(?:key|token)|credentials?"
    r"|access to|not have access|no access|lacks? access|not authori[sz]ed|unauthori[sz]ed|scopes?|plan|subscription"
    r"|organi[sz]ation|account|allow-?list|enterprise|gated|licen[cs]e|accept the terms)\b"
)
"""A regular expression for text about a key, access or a plan, which any further request would meet too."""
_ROUTE: Final = r"(?:application|app|(?<!voice )model|version|endpoint|path|route|deployment)"
ABOUT_MODEL: Final = (
    rf"\b{_ROUTE}s?(?: (?:with |id |named |name |hash )*(?!\S*(?:input|output|file|voice|audio|prompt))\S+)?,? "
    r"(?:(?:was|is|were|has been|could|does|do|can) )?(?:\w+ )?(?:not (?:be )?(?:found|exist|available|known)|n't exist"
    r"|removed|disabled|retired|deprecated|withdrawn|taken down|no longer)"
    rf"|\b(?:no such|unknown|no) {_ROUTE}\b|\bnot[ _]found: {_ROUTE}|\bcannot (?:get|post) /"
    r"|^[^\w\n]*+(?:(?:the )?requested resource (?:could not be|was not) found|(?:404:? )?not found[^\w\n]*+$)"
)
"""A regular expression for text about a missing model or path, or for the default text of a provider's 404."""

_NO_TEXT: Final = re.compile(
    r"inputs?|arguments|prompt|lyrics|payload|(?>.*?suggest).*|.*ur[il]s?|id|.*_id|loc|logs|metrics|version|model"
    r"|example.*",
    re.IGNORECASE,
)
"""Names of fields that hold the caller's input, or no text."""
_ECHOING: Final = re.compile(r"inputs?|arguments|prompt|lyrics|payload", re.IGNORECASE)
_WORDLESS: Final = re.compile(r".+_id|(?!.*(?:help|docs?|more|type)).*ur[il]s?", re.IGNORECASE)
_ERROR_FIELDS: Final = re.compile(
    r"(?:\w+_)?errors?|detail|details|messages?|invalid_(?:fields|params)|issues|problems|fields|title|msg|reason|status",
    re.IGNORECASE,
)
"""Names of fields that hold errors; their members are named after the caller's fields and hold the error of each."""
_SINGLE_ERROR: Final = frozenset({"msg", "message", "loc", "description", "code"})
"""An object with one of these members is a single error; its other members may repeat the caller's input."""
_FIELD_NAMES: Final = ("field", "param", "parameter", "path", "property")
_FIELD: Final = re.compile(rf"{FIELD}|{PARAMETER}", re.IGNORECASE)
_LINE_OF: Final = re.compile(r"^\W{0,3}((?:body|input|webhook)\w*(?:\.\w+)*)(?=: )", re.MULTILINE)
_PAGE: Final = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Evidence:
    """A provider's report of a failure: HTTP status, headers (names in lower case), error types and texts."""

    message: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    code: str | None = None
    """The provider's error code; None if there is only a type."""
    said: tuple[str, ...] = ()
    """Further texts, outside the message."""
    echoed: tuple[str, ...] = ()
    """Texts that the caller sent and the response repeats; they are not the provider's own text."""
    fields: tuple[str, ...] = ()
    """The fields that it names as invalid, with their path, such as `body.prompt`."""

    @property
    def is_page(self) -> bool:
        """Whether the message is an HTML or XML page, as proxies send it, and not the provider's own text."""
        return _PAGE.match(self.message) is not None

    @cached_property
    def own_text(self) -> str:
        """The provider's own texts, without the caller's, of bounded length."""
        return own_text((self.message, *self.said), self.echoed)

    @cached_property
    def kind_said(self) -> FailureKind | None:
        """The kind of the caller's mistake that the text names; None if it names none."""
        return None if self.is_page else kind_in(self.own_text)

    @cached_property
    def is_about_service(self) -> bool:
        """Whether the text is about a failure of the service."""
        return is_about_service(self.own_text)

    def is_about(self, pattern: str) -> bool:
        """Whether one of the named fields matches the pattern in full."""
        return any(re.fullmatch(pattern, name) for name in self.fields)

    def names(self, pattern: str) -> bool:
        """Whether the pattern is found in the provider's own text, in any case of letters."""
        return re.search(pattern, self.own_text, re.IGNORECASE | re.MULTILINE) is not None


@dataclass(frozen=True, slots=True)
class Row:
    """Errors that mean `kind`. All conditions that are set must hold; a row without conditions matches every error."""

    kind: FailureKind
    status: tuple[int, int] | int | None = None
    """An HTTP status, or the first and last of a range."""
    types: frozenset[str] = frozenset()
    """At least one of the error's types is in this set."""
    says: str | None = None
    """A regular expression that is found in the provider's own text, in any case of letters."""
    field: str | None = None
    """A regular expression that one of the named fields matches in full."""
    of_whole: bool = False
    """It names no field. If a field is named like the subject of the text, the text is about a model's input."""
    of_service: bool = False
    """Its text is about a failure of the service."""
    header: tuple[str, str] | None = None
    """The name of a header in lower case, and its value."""
    page: bool = False
    """It is a proxy's page."""
    yields: bool = False
    """The error may pass on text from elsewhere. If that names a caller's mistake, the mistake decides the kind."""

    def fits(self, evidence: Evidence) -> bool:
        """Whether the evidence meets all conditions."""
        return (
            self._status_fits(evidence.status)
            and (not self.types or not self.types.isdisjoint(evidence.types))
            and (self.field is None or evidence.is_about(self.field))
            and (not self.of_whole or not evidence.fields)
            and (self.says is None or evidence.names(self.says))
            and (not self.of_service or evidence.is_about_service)
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
    """The failure for this evidence, with the provider's message; `unknown` if neither a row nor the text decides."""
    row = next((row for row in rows if row.fits(evidence)), None)
    kind = row.kind if row is not None else FailureKind.UNKNOWN
    if row is None or row.yields:
        kind = evidence.kind_said or kind
    code = evidence.code or next(iter(evidence.types), None)
    return Failure(kind, sanitize(evidence.message), sanitize(code)[:200] if code else None, evidence.status)


def listed_errors(document: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    """The errors in the `detail` list of a response, in FastAPI's format: `loc`, `msg`, `type`."""
    listed = document.get("detail")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def describe(error: Mapping[str, JsonValue]) -> str:
    """One line for an error of such a list: its location and its message."""
    place, said = error.get("loc"), error.get("msg") or error.get("type")
    where = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    return ": ".join(text for text in (where, said) if isinstance(text, str) and text)


def places_of(errors: Sequence[Mapping[str, JsonValue]]) -> tuple[str, ...]:
    """The fields that listed errors are about, such as `body.prompt`. Errors about the whole request have none."""
    places = [error.get("loc") for error in errors]
    return tuple(
        ".".join(map(str, place)) for place in places if isinstance(place, list) and [str(part) for part in place][1:]
    )


def places_said(text: str) -> tuple[str, ...]:
    """The fields at the start of lines, as in "- input.prompt: is required"."""
    return tuple(found[1] for found in _LINE_OF.finditer(text[:MAX_SCANNED_CHARS]))


def texts_in(said: JsonValue, asked: Sequence[str] | None = None) -> tuple[str, ...]:
    """The provider's texts anywhere in a JSON value, without fields that repeat the caller's input.

    With `asked`, the texts that the caller sent, the value is read as an error: a field named after the caller's may
    hold the error of that field, as in {"lyrics": ["too long"]}, unless its text is one of those that were sent.
    """
    return _first(name + text for name, text in _texts(said, asked, 0, holds_errors=False))


def echoes_in(said: JsonValue, asked: Sequence[str] | None = None) -> tuple[str, ...]:
    """The texts of the caller that the value repeats in separate fields."""
    own = {text for _, text in zip(range(MAX_TEXTS), (text for _, text in _texts(said, asked, 0)), strict=False)}
    return tuple(text for text in _first(_echoes(said, 0)) if text not in own)


def strings_in(asked: JsonValue) -> tuple[str, ...]:
    """All strings in a request's JSON, `MAX_TEXTS` at most."""
    return _first(_strings(asked, 0))


def _first(texts: Iterator[str]) -> tuple[str, ...]:
    return tuple(text for text, _ in zip(texts, range(MAX_TEXTS), strict=False))


def _texts(
    said: JsonValue, asked: Sequence[str] | None, depth: int, *, holds_errors: bool = False
) -> Iterator[tuple[str, str]]:
    """The texts, each with the name of the caller's field that it is about as a prefix, or an empty string."""
    if isinstance(said, str) and said.strip():
        yield "", said
    elif depth < MOST_DEPTH and isinstance(said, list):
        for item in said:
            yield from _texts(item, asked, depth + 1, holds_errors=holds_errors)
    elif depth < MOST_DEPTH and isinstance(said, dict):
        holds_errors = holds_errors and _SINGLE_ERROR.isdisjoint(said)
        if depth == 0 and not any(_ERROR_FIELDS.fullmatch(name) for name in said):
            holds_errors = all(isinstance(value, str | list) for value in said.values())
        item_field = next((name for key in _FIELD_NAMES if isinstance(name := said.get(key), str)), "")
        for name, value in said.items():
            if not _NO_TEXT.fullmatch(name):
                within = holds_errors or _ERROR_FIELDS.fullmatch(name) is not None
                about = (
                    next((f"{each}: " for each in (name, item_field) if _FIELD.fullmatch(each)), "")
                    if asked is not None
                    else ""
                )
                yield from ((about + of, text) for of, text in _texts(value, asked, depth + 1, holds_errors=within))
            elif asked is not None:
                yield from _errors_of_field(name, value, asked, depth, holds_errors=holds_errors)


def _errors_of_field(
    name: str, value: JsonValue, asked: Sequence[str], depth: int, *, holds_errors: bool
) -> Iterator[tuple[str, str]]:
    """The errors that a field named after the caller's input holds; texts that the caller sent are omitted."""
    is_echoing, is_list = _ECHOING.fullmatch(name) is not None, isinstance(value, list)
    if not (holds_errors or (is_list and name.lower() in ("prompt", "lyrics"))):
        return
    if is_echoing and isinstance(value, dict):
        yield from _texts(value, asked, depth + 1, holds_errors=True)
    elif (is_echoing or _WORDLESS.fullmatch(name)) and not isinstance(value, dict):
        for text in _strings(value, depth + 1):
            if " " in text.strip() and not _was_sent(text, asked):
                yield f"{name}: ", text


def _was_sent(text: str, asked: Sequence[str]) -> bool:
    """Whether the text is one that was sent, complete or truncated."""
    start = text.strip().rstrip(".\u2026 ")
    return any(start in given or (given and given in text and len(given) >= len(text) // 2) for given in asked)


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
