"""Selection of the outputs among the files in a model's result, by the requested modality. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from pydantic import JsonValue

from adapter_kit.http.bounded_json import CUT, FILE_BYTES
from adapter_kit.port.outcomes import Output, OutputPending, Produced, Unreadable
from adapter_kit.results.find_files import KEYS, Candidate, is_aside, is_echo, links_in, plain_key
from contracts.generation import Modality
from contracts.modalities.registry import MODALITIES

MAX_OUTPUTS: Final = 100
MOST_DEPTH: Final = 20

_ABOUT: Final = """
    prompt negative_prompt enhanced_prompt revised_prompt lyrics text_prompt seed seeds status state stage id request_id
    version model title tags genre style format codec content_type mime_type mimetype mime media_type type file_name
    filename name description caption created_at started_at completed_at updated_at timings metadata
"""
_DESCRIPTIVE: Final = frozenset(_ABOUT.split())
"""Keys whose texts describe the output, and are neither an output nor a placeholder for one."""

_PARTS: Final = frozenset({"vocals", "instrumental", "stems", "mix", "full_mix"})
"""Keys of optional parts of a track; an empty one does not show that the track is pending."""
_STATES: Final = "processing pending queued in_queue in_progress running starting started generating waiting created"
_UNDER_WAY: Final = frozenset(_STATES.split())
"""Status texts that announce an output."""


def read_outputs(
    result: JsonValue, modality: Modality, raw: str, asked: JsonValue = None
) -> Produced | OutputPending | Unreadable:
    """The outputs in the result of a finished run, or why there are none.

    The media type of a link follows from its key, its declared type and its extension. Links of the requested type are
    the outputs. If there are none, the first of these groups that is not empty is used: links of the substitute type
    (a video for audio), links of unknown type, and, if the input contained no link, links under keys that usually
    repeat the input. Links in `asked`, the input of the run, are never outputs. The result is pending if all places for
    the requested type are empty, whatever else it contains, or if it contains no data. Any other result without an
    output is unreadable; its text, `raw`, is kept.
    """
    family = MODALITIES[modality].family
    given = {candidate.url for candidate in links_in(asked, echoes=True)}
    links = [candidate for candidate in links_in(result) if candidate.url not in given]
    awaited = _is_awaited(list(_places(result, family, 0)))
    own, *others = [[link for link in links if wanted(link)] for wanted in _in_order_of_preference(modality, links)]
    if awaited and not own:
        # Only the first two of the other groups can substitute for the output.
        beside = next((found for found in others[:2] if found), [])
        if beside or any(others):
            return OutputPending(f"the {modality} is not in the result yet", tuple(map(_output, beside)))
    echoes = [link for link in links_in(result, echoes=True) if link.url not in given]
    if not awaited and not given:
        others.append([link for link in echoes if link.family == family])
    for found in (own, *others):
        if any(link.url.endswith(CUT.decode()) for link in found):
            return Unreadable(f"a file within the result is larger than {FILE_BYTES} bytes in base64", raw)
        if found:
            return Produced(tuple(map(_output, found[:MAX_OUTPUTS])))
    if _is_pending(result, family, may_hold=bool(echoes) and not awaited):
        return OutputPending(f"the result has no {modality} in it yet")
    return Unreadable(f"no {modality} can be found in the result", raw)


def _output(link: Candidate) -> Output:
    return Output(link.url, link.content_type)


def _in_order_of_preference(modality: Modality, links: Sequence[Candidate]) -> Iterator[Callable[[Candidate], bool]]:
    family, other = MODALITIES[modality].family, MODALITIES[modality].stands_in
    for wanted in (family, other):
        alone = partial(_is_main, family=wanted)
        groups = frozenset(link.group for link in links if link.group is not None and alone(link))
        yield partial(_is_main, family=wanted, groups=groups)
    yield partial(_is_main, family=None)
    yield lambda link: link.family == family and not link.within
    yield lambda link: link.family == family
    yield lambda link: link.family == other is not None


def _is_main(link: Candidate, family: str | None, groups: frozenset[int | None] = frozenset()) -> bool:
    """Whether a link is a main output: of this family, or of unknown family in a list with one that is."""
    if link.aside or link.within:
        return False
    return link.family == family or (link.family is None and link.group in groups)


def _places(value: JsonValue, family: str, depth: int) -> Iterator[JsonValue]:
    """The values under keys of outputs of this family, except optional parts."""
    if depth > MOST_DEPTH:
        return
    if isinstance(value, list):
        for each in value[:MAX_OUTPUTS]:
            yield from _places(each, family, depth + 1)
    elif isinstance(value, dict):
        for key, inner in value.items():
            plain = plain_key(key)
            if KEYS.get(plain) == family:
                if plain not in _PARTS:
                    yield inner
            elif not is_echo(plain) and not is_aside(plain):
                yield from _places(inner, family, depth + 1)


def _is_awaited(places: Sequence[JsonValue]) -> bool:
    """Whether there are places for outputs, and all are empty; a boolean is an option of the input, and not a place."""
    counted = [place for place in places if not isinstance(place, bool)] or places
    return bool(counted) and all(map(_is_empty, counted))


def _is_pending(result: JsonValue, family: str, *, may_hold: bool) -> bool:
    """Whether the result is empty; it is not if it `may_hold` an output under another key."""
    if isinstance(result, dict):
        here = [value for key, value in result.items() if KEYS.get(plain_key(key)) == family]
        if here:
            return _is_awaited(here)
    return not isinstance(result, int | float) and not may_hold and _has_no_data(result)


def _is_empty(value: JsonValue) -> bool:
    """Whether a value under a key of outputs contains no output; it may contain a description."""
    return not isinstance(value, int | float) and _has_no_data(value) and not _is_more_than_placeholder(value, 0)


def _is_more_than_placeholder(value: JsonValue, depth: int) -> bool:
    """Whether a value without a file is more than a placeholder: a list with numbers, or a reference by name."""
    if depth > MOST_DEPTH or not isinstance(value, list | dict) or not value:
        return False
    inner = value if isinstance(value, list) else list(value.values())
    if any(_is_more_than_placeholder(each, depth + 1) for each in inner):
        return True
    if isinstance(value, list):
        return any(isinstance(each, int | float) for each in value)
    is_under_way = any(each.lower() in _UNDER_WAY for each in inner if isinstance(each, str))
    has_place = any(each in (None, "", [], {}) for each in inner)
    return not is_under_way and not has_place and any(isinstance(each, str | int | float) for each in inner)


def _has_no_data(value: JsonValue, depth: int = 0) -> bool:
    if depth > MOST_DEPTH:
        return False
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list):
        return all(_has_no_data(each, depth + 1) for each in value[:1000])
    if isinstance(value, dict):
        return all(_is_about(plain_key(key)) or _has_no_data(each, depth + 1) for key, each in value.items())
    return True


def _is_about(key: str) -> bool:
    return key in _DESCRIPTIVE or is_echo(key) or is_aside(key)
