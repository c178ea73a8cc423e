"""Whether a text says that the caller made a mistake: by the tables of phrases, sentence by sentence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from adapter_kit.phrases.findings import FINDINGS
from adapter_kit.phrases.input import INPUT_PHRASES
from adapter_kit.phrases.phrase import Phrase
from adapter_kit.phrases.service import SERVICE_PHRASES
from adapter_kit.phrases.verdicts import VERDICTS
from contracts.failures import FailureKind

CONTENT_PHRASES: Final = (*VERDICTS, *FINDINGS)
MAX_CHARS: Final = 3_000
"""How much of a text is read, in characters, beside what it repeats of the caller's."""
MAX_ECHOED_CHARS: Final = 20_000
MAX_SENTENCE_CHARS: Final = 1_000
SHORTEST_ECHO: Final = 20
"""What a caller wrote is recognised in a provider's words from this many characters on."""

_BLANKS: Final = re.compile(r"[^\S\n]+")
_ENDS: Final = re.compile(r"\n+|(?<=[.!?;])\s+|[\u3002\uff01\uff1b]")
"""Where a sentence ends, in Chinese too."""
_QUOTED_BREAK: Final = re.compile(r"\\[nrt]")


def kind_said(texts: Iterable[str], echoed: Iterable[str] = ()) -> FailureKind | None:
    """The caller's mistake that the texts name: CONTENT_POLICY, INVALID_INPUT, or None where they name none.

    `echoed` is what the caller wrote: providers repeat it, and a prompt about censorship is no censorship.
    """
    heard = without_echo("\n".join(texts)[:MAX_ECHOED_CHARS], echoed)[:MAX_CHARS]
    sentences = sentences_of(heard)
    broken = [_one_of(SERVICE_PHRASES, sentence) is not None for sentence in sentences]
    own = [sentence for sentence, failed in zip(sentences, broken, strict=True) if not failed]
    for phrases, kind in ((CONTENT_PHRASES, FailureKind.CONTENT_POLICY), (INPUT_PHRASES, FailureKind.INVALID_INPUT)):
        said = [phrase for sentence in own if (phrase := _one_of(phrases, sentence)) is not None]
        if any(not phrase.weak or not any(broken) for phrase in said):
            return kind
    return None


def sentences_of(text: str) -> list[str]:
    """The text's sentences and lines, each of bounded length."""
    sentences = (_BLANKS.sub(" ", part).strip()[:MAX_SENTENCE_CHARS] for part in _ENDS.split(text))
    return [sentence for sentence in sentences if sentence]


def _one_of(phrases: Sequence[Phrase], sentence: str) -> Phrase | None:
    return next((phrase for phrase in phrases if phrase.found_in(sentence)), None)


def without_echo(text: str, echoed: Iterable[str]) -> str:
    """The text without what the caller wrote, be it whole or cut off, as it is or as JSON writes it."""
    for given in sorted({each.strip() for each in echoed}, key=len, reverse=True):
        for form in (given, given.replace("\n", "\\n").replace('"', '\\"')):
            text = _cut(text, form)
    return _QUOTED_BREAK.sub("\n", text)


def _cut(text: str, echo: str) -> str:
    begin = echo[:SHORTEST_ECHO]
    if len(begin) < SHORTEST_ECHO:
        return text
    at = text.find(begin)
    while at >= 0:
        same = next((n for n, (a, b) in enumerate(zip(text[at:], echo, strict=False)) if a != b), None)
        length = min(len(text) - at, len(echo)) if same is None else same
        text = f"{text[:at]}…{text[at + length :]}"
        at = text.find(begin, at + 1)
    return text
