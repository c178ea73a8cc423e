"""Which files in a model's result are its outputs: of the media asked for, if there are any. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from pydantic import JsonValue

from adapter_kit.bounded_json import CUT, FILE_BYTES
from adapter_kit.outcomes import Output, OutputPending, Produced, Unreadable
from adapter_kit.results import KEYS, Candidate, is_aside, is_echo, links_in, plain_key
from contracts.generation import Modality

MAX_OUTPUTS: Final = 100

_FAMILY: Final[Mapping[Modality, str]] = {"music": "audio", "image": "image"}
_MAY_STAND_FOR: Final[Mapping[Modality, str | None]] = {"music": "video", "image": None}
"""A film has sound in it."""
_ABOUT: Final = """
    prompt negative_prompt enhanced_prompt revised_prompt lyrics text_prompt seed seeds status state stage id request_id
    version model title tags genre style format codec content_type mime_type mimetype mime media_type type file_name
    filename name description caption created_at started_at completed_at updated_at timings metadata
"""
_SAYS_NOTHING: Final = frozenset(_ABOUT.split())
"""Keys whose texts are about the output, and neither one nor its place."""


def read_outputs(
    result: JsonValue, modality: Modality, raw: str, asked: JsonValue = None
) -> Produced | OutputPending | Unreadable:
    """What a finished run's result holds.

    A link counts by its key, its declared type and its extension; those of the right kind are the outputs, and only
    where there is none such that may be: a film for sound, then links of which nothing says what they are. What was
    `asked` for, and comes back in the result, is no output. A result is pending while all that should be a file is
    missing or empty; any other without a file is unreadable, and its `raw` text kept.
    """
    given = {candidate.url for candidate in links_in(asked, echoes=True)}
    links = [candidate for candidate in links_in(result) if candidate.url not in given]
    for wanted in _in_order_of_preference(modality, links):
        if found := [Output(link.url, link.content_type) for link in links if wanted(link)]:
            if any(output.url.endswith(CUT.decode()) for output in found):
                return Unreadable(f"a file within the result is larger than {FILE_BYTES} bytes in base64", raw)
            return Produced(tuple(found[:MAX_OUTPUTS]))
    family = _FAMILY[modality]
    if _is_pending(result, family):
        return OutputPending(f"the result has no {modality} in it yet")
    return Unreadable(f"no {modality} can be found in the result", raw)


def _in_order_of_preference(modality: Modality, links: Sequence[Candidate]) -> Iterator[Callable[[Candidate], bool]]:
    family, other = _FAMILY[modality], _MAY_STAND_FOR[modality]
    for wanted in (family, other):
        if wanted is not None:
            alone = partial(_is_main, family=wanted)
            groups = frozenset(link.group for link in links if link.group is not None and alone(link))
            yield partial(_is_main, family=wanted, groups=groups)
    yield partial(_is_main, family=None)
    yield lambda link: link.family == family and not link.within
    yield lambda link: link.family == family
    yield lambda link: link.family == other is not None


def _is_main(link: Candidate, family: str | None, groups: frozenset[int | None] = frozenset()) -> bool:
    """Whether a link is a result's own, of this family, or stands in a list with such."""
    if link.aside or link.within:
        return False
    return link.family == family or (link.family is None and link.group in groups)


def _is_pending(result: JsonValue, family: str) -> bool:
    if isinstance(result, dict):
        here = [_is_empty(value) for key, value in result.items() if KEYS.get(plain_key(key)) == family]
        if here:
            return all(here)
    return not isinstance(result, int | float) and _says_nothing(result)


def _is_empty(value: JsonValue) -> bool:
    """Whether a value under a key of outputs has none in it yet, though it may say something about it."""
    return not isinstance(value, int | float) and _says_nothing(value)


def _says_nothing(value: JsonValue, depth: int = 0) -> bool:
    if depth > 20:
        return False
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list):
        return all(_says_nothing(each, depth + 1) for each in value[:1000])
    if isinstance(value, dict):
        return all(_is_about(plain_key(key)) or _says_nothing(each, depth + 1) for key, each in value.items())
    return True


def _is_about(key: str) -> bool:
    return key in _SAYS_NOTHING or is_echo(key) or is_aside(key)
