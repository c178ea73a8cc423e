"""A row of the tables of phrases, and how its notation is read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, Literal

Topic = Literal["content", "input", "service", "own"]
"""What a phrase is about: the caller's content was refused, the caller's input is not valid, a service failed, or a
limit or a file is the service's own and not the caller's."""

GAP: Final = ".{0,40}?"
"""What "…" between two parts of a phrase stands for."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Ways of saying one thing, with where they were read. The tests hold each row to its examples."""

    topic: Topic
    says: tuple[str, ...]
    """Regular expressions, of which one is found within a sentence as whole words, in any case of letters.

    "…" between two parts stands for up to 40 characters; at an end, for the rest of a word.
    """
    source: str
    """The URL of the page that documents the wording, or "field report: " and where it was met."""
    real: tuple[str, ...] = ()
    """What was said, as the source has it; each of these is read as what the phrase is about."""
    alike: tuple[str, ...] = ()
    """Other ways of saying it, which nobody has reported; read alike."""
    innocent: tuple[str, ...] = ()
    """Texts with the same words that mean something else."""
    weak: bool = False
    """It counts only where nothing in the whole text speaks against it, not just in its sentence."""

    def found_in(self, sentence: str) -> bool:
        """Whether the sentence says it; a code at its head is read by its words, too."""
        pattern = _compiled(self.says)
        if pattern.search(sentence) is not None:
            return True
        in_words = _spelt_out(sentence)
        return in_words != sentence and pattern.search(in_words) is not None


_CODE: Final = re.compile(
    r"\W*(?:\w+[.:] ?)*?(?P<code>[a-z]+(?:[_.-][a-z]+)+|[A-Z][A-Za-z]+(?:_\w+)*)(?=\W*$|\W{0,2}[:(])"
)
_HUMP: Final = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_.-]")
_EXCEPTION: Final = re.compile(r" (?:Error|Exception)$", re.IGNORECASE)


@lru_cache(maxsize=256)
def _spelt_out(sentence: str) -> str:
    """The sentence with the code that it is, or begins with, in words; a model may raise a SafetyCheckFailedError."""
    found = _CODE.match(sentence)
    if found is None:
        return sentence
    code = _EXCEPTION.sub("", _HUMP.sub(" ", found["code"]))
    return sentence[: found.start("code")] + code + sentence[found.end("code") :]


@cache
def _compiled(says: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, says)), re.IGNORECASE)


def _expression(phrase: str) -> str:
    left, right = not phrase.startswith("…"), not phrase.endswith("…")
    body = phrase.strip("…").replace(" … ", rf"\b{GAP}\b").replace("…", GAP)
    return (r"(?<!\w)" if left else "") + f"(?:{body})" + (r"(?!\w)" if right else "")
