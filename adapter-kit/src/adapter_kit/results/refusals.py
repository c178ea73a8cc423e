"""A refusal in the place of an output: what a finished run's result says instead of naming files. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.error_rules import MOST_DEPTH, texts_in
from adapter_kit.http.sanitize import sanitize
from adapter_kit.phrases.reading import kind_said
from adapter_kit.port.outcomes import Failure
from adapter_kit.results.find_files import plain_key
from contracts.failures import FailureKind

_MADE_UP: Final = re.compile(
    r".*prompts?|.*lyrics.*|(.*_)?(title|tag|genre|style|mood|theme|name|filename|caption|description|summary|subtitle)s?"
    r"|transcript.*|metadata"
)
"""Keys of words that a person or a model has made up: they tell of the work, and not of the run."""
_FLAG: Final = re.compile(
    r"(has_|is_|contains_)?(nsfw|unsafe|flagged|moderated)(_concepts?|_content|_images?|_outputs?)?(_detected|_flagged)?"
)
"""Keys under which checkers of content say of each output whether they object to it."""


def refusal_in(result: JsonValue, echoed: Sequence[str] = ()) -> Failure | None:
    """The caller's mistake that a result without an output names, wherever in it; None where it names none.

    `echoed` is what the caller wrote, which is not the provider's word.
    """
    said = texts_in(_without_what_was_made_up(result, 0))
    if (kind := kind_said(said, echoed)) is not None:
        return Failure(kind, sanitize("; ".join(said)))
    flag = _objection(result, 0)
    return None if flag is None else Failure(FailureKind.CONTENT_POLICY, f"{sanitize(flag)} is true of all outputs")


def _without_what_was_made_up(value: JsonValue, depth: int) -> JsonValue:
    if depth > MOST_DEPTH:
        return None
    if isinstance(value, list):
        return [_without_what_was_made_up(each, depth + 1) for each in value]
    if isinstance(value, dict):
        told = {name: each for name, each in value.items() if not _MADE_UP.fullmatch(plain_key(name))}
        return {name: _without_what_was_made_up(each, depth + 1) for name, each in told.items()}
    return value


def _objection(value: JsonValue, depth: int) -> str | None:
    """The key under which a checker objects to all outputs."""
    if depth > MOST_DEPTH or not isinstance(value, dict | list):
        return None
    for name, each in value.items() if isinstance(value, dict) else (("", each) for each in value):
        if _FLAG.fullmatch(plain_key(name)) and (each is True or (isinstance(each, list) and _all_true(each))):
            return name
        if (found := _objection(each, depth + 1)) is not None:
            return found
    return None


def _all_true(flags: list[JsonValue]) -> bool:
    return bool(flags) and all(flag is True for flag in flags)
