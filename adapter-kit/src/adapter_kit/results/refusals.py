"""Recognition of a refusal in the result of a finished run that contains no output. Pure."""

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

_FREE_TEXT: Final = re.compile(
    r".*prompts?|.*lyrics.*|(.*_)?(title|tag|genre|style|mood|theme|name|filename|caption|description|summary|subtitle)s?"
    r"|transcript.*|metadata"
)
"""Keys of texts written by a person or a model, which describe the work and not the run."""
_FLAG: Final = re.compile(
    r"(has_|is_|contains_)?(nsfw|unsafe|flagged|moderated)(_concepts?|_content|_images?|_outputs?)?(_detected|_flagged)?"
)
"""Keys under which content checkers flag each output."""


def refusal_in(result: JsonValue, echoed: Sequence[str] = ()) -> Failure | None:
    """The failure that a result without an output states, anywhere in it; None if it states none.

    `echoed`: texts of the caller, which are ignored if the result repeats them.
    """
    said = texts_in(_without_free_text(result, 0))
    if (kind := kind_said(said, echoed)) is not None:
        return Failure(kind, sanitize("; ".join(said)))
    flag = _flag_of_all(result, 0)
    return None if flag is None else Failure(FailureKind.CONTENT_POLICY, f"{sanitize(flag)} is true of all outputs")


def _without_free_text(value: JsonValue, depth: int) -> JsonValue:
    if depth > MOST_DEPTH:
        return None
    if isinstance(value, list):
        return [_without_free_text(each, depth + 1) for each in value]
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if not _FREE_TEXT.fullmatch(plain_key(name))}
        return {name: _without_free_text(each, depth + 1) for name, each in kept.items()}
    return value


def _flag_of_all(value: JsonValue, depth: int) -> str | None:
    """The key under which a content checker flags all outputs; None without one."""
    if depth > MOST_DEPTH or not isinstance(value, dict | list):
        return None
    for name, each in value.items() if isinstance(value, dict) else (("", each) for each in value):
        if _FLAG.fullmatch(plain_key(name)) and (each is True or (isinstance(each, list) and _all_true(each))):
            return name
        if (found := _flag_of_all(each, depth + 1)) is not None:
            return found
    return None


def _all_true(flags: list[JsonValue]) -> bool:
    return bool(flags) and all(flag is True for flag in flags)
