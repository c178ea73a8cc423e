"""Finds caller's mistakes in a provider's text, sentence by sentence, with the phrase tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from adapter_kit.phrases.chinese import CHINESE_CONTENT, CHINESE_INPUT
from adapter_kit.phrases.findings import FINDINGS
from adapter_kit.phrases.guards import GUARDS
from adapter_kit.phrases.input import INPUT_PHRASES
from adapter_kit.phrases.input_media import INPUT_MEDIA_PHRASES
from adapter_kit.phrases.own import OWN_PHRASES
from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.schema import SCHEMA_PHRASES
from adapter_kit.phrases.service import NOUNS, SERVICE_PHRASES
from adapter_kit.phrases.verdicts import VERDICTS
from contracts.failures import FailureKind

CONTENT_PHRASES: Final = (*VERDICTS, *GUARDS, *FINDINGS, *CHINESE_CONTENT)
CALLER_PHRASES: Final = (*INPUT_PHRASES, *INPUT_MEDIA_PHRASES, *SCHEMA_PHRASES, *CHINESE_INPUT)
MAX_CHARS: Final = 3_000
"""Limit of a text, and half the limit of all texts together, not counting the caller's own; the middle is omitted."""
MAX_ECHOED_CHARS: Final = 100_000
"""How much of a text is searched for the caller's own texts."""
MAX_SENTENCE_CHARS: Final = 1_000
READINGS_KEPT: Final = 256
"""How many texts are read once: a provider that refuses many requests says the same of each."""
SHORTEST_ECHO: Final = 20
"""The least number of matching characters by which a caller's text is recognised in a provider's."""

_BLANKS: Final = re.compile(r"[^\S\n]+")
_ENDS: Final = re.compile(r"[\n\r]+|(?<=[.!?;])\s+|[\u3002\uff01\uff1b]")
"""The end of a sentence, in English or Chinese."""
_QUOTED_BREAK: Final = re.compile(r"\\[nrt]")
_TRACEBACK_FRAME: Final = re.compile(r"^[^\S\n]*File \"?'?[^\n]{1,400}, line \d+[^\n]*(?:\n {4}[^\n]*)*", re.MULTILINE)
"""Frames of a Python traceback with their source lines, which are not part of a message."""
_QUOTATION: Final = re.compile(
    r"(\b(?:prompts?|lyrics|phrases?|words?|terms?|text|input|tags?|title):? )"
    r"(?:'[^'\n]{1,200}'(?!\w)|[\"`\u201c\u2018][^\"`\u201d\u2019\n]{1,200}[\"`\u201d\u2019])",
    re.IGNORECASE,
)
"""A quotation of the caller's text."""
_HYPOTHETICAL: Final = re.compile(
    r"\W*(?:(?:if|when|unless) (?:your|a|any|an)\b|(?:please )?(?:make sure|ensure|note) that (?:your|prompts)\b"
    r"|(?:requests?|prompts?|content|lyrics|inputs?) (?:that|which) .{1,80}\b(?:may|might|will|can|are|is)\b"
    r"|possible (?:reasons|causes)|.{0,40}\b(?:may|might|can|could) (?:be caused|be due|occur|happen)\b)",
    re.IGNORECASE,
)
"""The start of a sentence about a possibility, not an event."""
_CONSTRAINT: Final = re.compile(
    r"\b(?:must|should|needs? to|ha(?:s|ve) to|ensure|expected|at (?:most|least))\b", re.IGNORECASE
)
"""Words for a constraint on a parameter, which may be named like a fault of the service (`timeout`)."""
_LISTED: Final = re.compile(
    r"((?:words?|terms?|phrases?|content|language|lyrics|topics?|keywords?)): [\w ,/'\"-]{1,80}\W*$", re.IGNORECASE
)
"""The list after a verdict's colon."""


def kind_said(texts: Iterable[str], echoed: Iterable[str] = ()) -> FailureKind | None:
    """The caller's mistake that the texts report: CONTENT_POLICY, INVALID_INPUT, or None.

    `echoed` holds the caller's texts, which providers repeat: a prompt about censorship does not report any.
    """
    return kind_in(own_text(texts, echoed))


@lru_cache(maxsize=READINGS_KEPT)
def kind_in(text: str) -> FailureKind | None:
    """The caller's mistake that a result of `own_text` reports: CONTENT_POLICY, INVALID_INPUT, or None."""
    sentences = [sentence for sentence in sentences_of(text) if not _HYPOTHETICAL.match(sentence)]
    failed = [_is_about_service(sentence) for sentence in sentences]
    own = [bad or _has_phrase(OWN_PHRASES, sentence) for bad, sentence in zip(failed, sentences, strict=True)]
    for phrases, kind, against in (
        (CONTENT_PHRASES, FailureKind.CONTENT_POLICY, failed),
        (CALLER_PHRASES, FailureKind.INVALID_INPUT, own),
    ):
        said = [_strength(phrases, sentence) for sentence, no in zip(sentences, against, strict=True) if not no]
        if "firm" in said or ("weak" in said and not any(against)):
            return kind
    return None


@lru_cache(maxsize=READINGS_KEPT)
def is_about_service(text: str) -> bool:
    """Whether a sentence in a result of `own_text` reports a failure of the service."""
    return any(_is_about_service(said) for said in sentences_of(text) if not _CONSTRAINT.search(said))


def own_text(texts: Iterable[str], echoed: Iterable[str] = ()) -> str:
    """The texts without the caller's own and without duplicates, shortened in the middle: a verdict may be last."""
    echoes = tuple(echoed)
    own = (_shortened(_without_frames(without_echo(_searched(text, echoes), echoes)), MAX_CHARS) for text in texts)
    return _shortened("\n".join(dict.fromkeys(own)), 2 * MAX_CHARS)


def _searched(text: str, echoes: Sequence[str]) -> str:
    """The two ends of a long text, which are searched for echoes; an echo that is cut at the gap is removed."""
    if len(text) <= MAX_ECHOED_CHARS:
        return text
    end = text[-MAX_ECHOED_CHARS // 2 :]
    for echo in echoes:
        if (at := echo.find(end[:SHORTEST_ECHO])) >= 0:
            end = end[_echo_length(end, 0, echo[at:]) :]
    return f"{text[: MAX_ECHOED_CHARS // 2]}\n{end}"


def sentences_of(text: str) -> list[str]:
    """The sentences and lines of the text, without duplicates and shortened."""
    sentences = (_shortened(_BLANKS.sub(" ", part).strip(), MAX_SENTENCE_CHARS, " ") for part in _ENDS.split(text))
    return list(dict.fromkeys(sentence for sentence in sentences if sentence))


def _without_frames(text: str) -> str:
    message = _TRACEBACK_FRAME.sub("", text) if ", line " in text else text
    return "\n".join(_shortened(line, MAX_SENTENCE_CHARS, " ") for line in message.split("\n"))


def _shortened(text: str, most: int, between: str = "\n") -> str:
    return text if len(text) <= most else f"{text[: most // 2]}{between}{text[-(most // 2) :]}"


def _is_about_service(sentence: str) -> bool:
    said = _QUOTATION.sub(r"\1", sentence)
    return _has_phrase(SERVICE_PHRASES, said) or _has_phrase(NOUNS, _LISTED.sub(r"\1", said))


def _strength(phrases: Sequence[Phrase], sentence: str) -> str | None:
    found = [phrase.weak for phrase in phrases if phrase.found_in(sentence)]
    return None if not found else "weak" if all(found) else "firm"


def _has_phrase(phrases: Sequence[Phrase], sentence: str) -> bool:
    return any(phrase.found_in(sentence) for phrase in phrases)


def without_echo(text: str, echoed: Iterable[str]) -> str:
    """The text without the caller's texts, complete or truncated, plain or escaped as in JSON."""
    for given in sorted({each.strip() for each in echoed}, key=len, reverse=True):
        for form in dict.fromkeys((given, given.replace("\n", "\\n").replace('"', '\\"'))):
            text = _without_form(text, form)
    return _QUOTED_BREAK.sub("\n", text)


def _without_form(text: str, echo: str) -> str:
    begin = echo[:SHORTEST_ECHO]
    if len(begin) < SHORTEST_ECHO:
        return text
    kept, end, at = [], 0, text.find(begin)
    while at >= 0:
        kept += [text[end:at], "…"]
        end = at + _echo_length(text, at, echo)
        at = text.find(begin, end)
    return "".join((*kept, text[end:]))


def _echo_length(text: str, at: int, echo: str) -> int:
    """The length of the part of `echo` that is in `text` at `at`."""
    if text.startswith(echo, at):
        return len(echo)
    same = 0
    for a, b in zip(text[at : at + len(echo)], echo, strict=False):
        if a != b:
            break
        same += 1
    return same
