"""The rows of the phrase tables and the notation of their patterns. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Literal

Topic = Literal["content", "input", "service", "own"]
"""What a phrase reports: the caller's content was refused, the caller's input is invalid, a service failed, or a limit
or a file belongs to the service and not to the caller."""

GAP: Final = ".{0,40}?"
"""The expression for "…" between two parts of a phrase."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Wordings of one message, with their source. The tests check each row against its examples."""

    topic: Topic
    says: tuple[str, ...]
    """Regular expressions; the phrase applies if one is found in a sentence, as whole words and in any case of letters.

    "…" between two parts matches up to 40 characters; at the start or the end, the rest of a word.
    """
    source: str
    """The URL of the page that documents the wording, or "field report: " and where it was observed."""
    real: tuple[str, ...] = ()
    """Texts from the source; each is classified as the row's topic."""
    alike: tuple[str, ...] = ()
    """Similar texts that have not been observed; classified in the same way."""
    innocent: tuple[str, ...] = ()
    """Texts with the same words and another meaning; not classified as the topic."""
    weak: bool = False
    """It counts only if no sentence of the whole text is about the service; other rows require that of their own."""

    def found_in(self, sentence: str) -> bool:
        """Whether an expression is found in the sentence, or in it with an error code at its start split into words."""
        pattern = _compiled(self.says)
        if pattern.search(sentence) is not None:
            return True
        in_words = _with_code_in_words(sentence)
        return in_words != sentence and pattern.search(in_words) is not None


_CODE: Final = re.compile(
    r"\W*(?:\w+[.:] ?)*?(?P<code>[a-z]+(?:[_.-][a-z]+)+|[A-Z][A-Za-z]+(?:_\w+)?)(?=\W*$|\W{0,2}[:(])"
)
_WORD_BOUNDARY: Final = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_.-]")
_EXCEPTION: Final = re.compile(r" (?:Error|Exception)$", re.IGNORECASE)


@lru_cache(maxsize=256)
def _with_code_in_words(sentence: str) -> str:
    """The sentence with an error code at its start split into words: a model may raise a SafetyCheckFailedError."""
    found = _CODE.match(sentence)
    if found is None:
        return sentence
    code = _EXCEPTION.sub("", _WORD_BOUNDARY.sub(" ", found["code"]))
    return sentence[: found.start("code")] + code + sentence[found.end("code") :]


@cache
def _compiled(says: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, says)), re.IGNORECASE)


def _expression(phrase: str) -> str:
    left, right = not phrase.startswith("…"), not phrase.endswith("…")
    body = phrase.strip("…").replace(" … ", rf"\b{GAP}\b").replace("…", GAP)
    return (r"(?<!\w)" if left else "") + f"(?:{body})" + (r"(?!\w)" if right else "")
