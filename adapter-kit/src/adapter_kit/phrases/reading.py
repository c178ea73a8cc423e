"""Whether a text says that the caller made a mistake: by the tables of phrases, sentence by sentence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
"""How much is read of a text, and twice as much of all of them, beside what repeats the caller's; begin and end."""
MAX_ECHOED_CHARS: Final = 100_000
"""How much of a text is searched for what the caller wrote."""
MAX_SENTENCE_CHARS: Final = 1_000
SHORTEST_ECHO: Final = 20
"""What a caller wrote is recognised in a provider's words from this many characters on."""

_BLANKS: Final = re.compile(r"[^\S\n]+")
_ENDS: Final = re.compile(r"[\n\r]+|(?<=[.!?;])\s+|[\u3002\uff01\uff1b]")
"""Where a sentence ends, in Chinese too."""
_QUOTED_BREAK: Final = re.compile(r"\\[nrt]")
_FRAME: Final = re.compile(r"^[^\S\n]*File \"?'?[^\n]{1,400}, line \d+[^\n]*(?:\n {4}[^\n]*)*", re.MULTILINE)
"""Where a traceback has been, with the line of code: what stands there was not said."""
_QUOTATION: Final = re.compile(
    r"(\b(?:prompts?|lyrics|phrases?|words?|terms?|text|input|tags?|title):? )"
    r"(?:'[^'\n]{1,200}'(?!\w)|[\"`\u201c\u2018][^\"`\u201d\u2019\n]{1,200}[\"`\u201d\u2019])",
    re.IGNORECASE,
)
"""What is quoted of the caller's."""
_SUPPOSED: Final = re.compile(
    r"\W*(?:(?:if|when|unless) (?:your|a|any|an)\b|(?:please )?(?:make sure|ensure|note) that (?:your|prompts)\b"
    r"|(?:requests?|prompts?|content|lyrics|inputs?) (?:that|which) .{1,80}\b(?:may|might|will|can|are|is)\b"
    r"|possible (?:reasons|causes)|.{0,40}\b(?:may|might|can|could) (?:be caused|be due|occur|happen)\b)",
    re.IGNORECASE,
)
"""A sentence about what may be, and not about what has happened."""
_CONSTRAINT: Final = re.compile(
    r"\b(?:must|should|needs? to|ha(?:s|ve) to|ensure|expected|at (?:most|least))\b", re.IGNORECASE
)
"""What is said of a parameter, be it called `timeout`."""
_LISTED: Final = re.compile(
    r"((?:words?|terms?|phrases?|content|language|lyrics|topics?|keywords?)): [\w ,/'\"-]{1,80}\W*$", re.IGNORECASE
)
"""What a verdict lists after its colon."""


def kind_said(texts: Iterable[str], echoed: Iterable[str] = ()) -> FailureKind | None:
    """The caller's mistake that the texts name: CONTENT_POLICY, INVALID_INPUT, or None where they name none.

    `echoed` is what the caller wrote: providers repeat it, and a prompt about censorship is no censorship.
    """
    return kind_in(heard(texts, echoed))


def kind_in(text: str) -> FailureKind | None:
    """The same of what is `heard`."""
    sentences = [sentence for sentence in sentences_of(text) if not _SUPPOSED.match(sentence)]
    failed = [_speaks_of_service(sentence) for sentence in sentences]
    own = [bad or _one_of(OWN_PHRASES, sentence) is not None for bad, sentence in zip(failed, sentences, strict=True)]
    for phrases, kind, against in (
        (CONTENT_PHRASES, FailureKind.CONTENT_POLICY, failed),
        (CALLER_PHRASES, FailureKind.INVALID_INPUT, own),
    ):
        said = [_said(phrases, sentence) for sentence, no in zip(sentences, against, strict=True) if not no]
        if "firm" in said or ("weak" in said and not any(against)):
            return kind
    return None


def speaks_of_service(text: str) -> bool:
    """Whether some sentence of what is `heard` is about a service that failed."""
    return any(_speaks_of_service(said) for said in sentences_of(text) if not _CONSTRAINT.search(said))


def heard(texts: Iterable[str], echoed: Iterable[str] = ()) -> str:
    """What the texts say in the provider's own words, once each, of bounded length; a verdict may stand at the end."""
    echoes = tuple(echoed)
    own = (_ends_of(_told(without_echo(_searched(text, echoes), echoes)), MAX_CHARS) for text in texts)
    return _ends_of("\n".join(dict.fromkeys(own)), 2 * MAX_CHARS)


def _searched(text: str, echoes: Sequence[str]) -> str:
    """As much of the text as is searched for echoes; where its end begins within one, without that piece."""
    if len(text) <= MAX_ECHOED_CHARS:
        return text
    end = text[-MAX_ECHOED_CHARS // 2 :]
    for echo in echoes:
        if (at := echo.find(end[:SHORTEST_ECHO])) >= 0:
            end = end[_shared(end, 0, echo[at:]) :]
    return f"{text[: MAX_ECHOED_CHARS // 2]}\n{end}"


def sentences_of(text: str) -> list[str]:
    """The text's sentences and lines, each once and of bounded length."""
    sentences = (_ends_of(_BLANKS.sub(" ", part).strip(), MAX_SENTENCE_CHARS, " ") for part in _ENDS.split(text))
    return list(dict.fromkeys(sentence for sentence in sentences if sentence))


def _told(text: str) -> str:
    told = _FRAME.sub("", text) if ", line " in text else text
    return "\n".join(_ends_of(line, MAX_SENTENCE_CHARS, " ") for line in told.split("\n"))


def _ends_of(text: str, most: int, between: str = "\n") -> str:
    return text if len(text) <= most else f"{text[: most // 2]}{between}{text[-(most // 2) :]}"


def _speaks_of_service(sentence: str) -> bool:
    said = _QUOTATION.sub(r"\1", sentence)
    if _one_of(SERVICE_PHRASES, said) is not None:
        return True
    return _one_of(NOUNS, _LISTED.sub(r"\1", said)) is not None


def _said(phrases: Sequence[Phrase], sentence: str) -> str | None:
    found = [phrase.weak for phrase in phrases if phrase.found_in(sentence)]
    return None if not found else "weak" if all(found) else "firm"


def _one_of(phrases: Sequence[Phrase], sentence: str) -> Phrase | None:
    return next((phrase for phrase in phrases if phrase.found_in(sentence)), None)


def without_echo(text: str, echoed: Iterable[str]) -> str:
    """The text without what the caller wrote, be it whole or cut off, as it is or as JSON writes it."""
    for given in sorted({each.strip() for each in echoed}, key=len, reverse=True):
        for form in dict.fromkeys((given, given.replace("\n", "\\n").replace('"', '\\"'))):
            text = _cut(text, form)
    return _QUOTED_BREAK.sub("\n", text)


def _cut(text: str, echo: str) -> str:
    begin = echo[:SHORTEST_ECHO]
    if len(begin) < SHORTEST_ECHO:
        return text
    kept, end, at = [], 0, text.find(begin)
    while at >= 0:
        kept += [text[end:at], "…"]
        end = at + _shared(text, at, echo)
        at = text.find(begin, end)
    return "".join((*kept, text[end:]))


def _shared(text: str, at: int, echo: str) -> int:
    """How much of the echo stands there."""
    if text.startswith(echo, at):
        return len(echo)
    same = 0
    for a, b in zip(text[at : at + len(echo)], echo, strict=False):
        if a != b:
            break
        same += 1
    return same
