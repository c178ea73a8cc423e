"""Determines the media type of a file that a provider returned from its bytes, not from its name or headers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar

from adapter_kit.log_events import OutputEvent
from adapter_kit.media import magic
from adapter_kit.media.containers import Contents, Truncated, boxes_in, elements_in
from adapter_kit.media.frames import SEARCHED_BYTES, after_tags, find_frames
from adapter_kit.media.magic import Kind, describe, kind_at_offset, kind_by_signature, other_kind, text_in
from adapter_kit.media.measures import PIXELS, SECONDS, NoSound
from chassis.observability.logs import get_logger
from contracts.generation import Modality
from contracts.modalities.registry import MODALITIES
from contracts.modalities.spec import ModalitySpec

T = TypeVar("T")
_log = get_logger("adapter_kit.media.inspect")

HEAD_BYTES: Final = 4096
LONGEST_S: Final = 30 * 86_400.0
"""A longer duration, in seconds, is taken for a wrong header."""


class Unusable(Exception):
    """The file is not media of the requested modality; the message describes it."""


@dataclass(frozen=True, slots=True)
class Media:
    """A media file; its duration in seconds or its dimensions in pixels are None if they cannot be determined."""

    content_type: str
    extension: str
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None


_NO_SOUND: Final = re.compile(
    rb"PK\x03\x04|%PDF-|\x7fELF|\x1f\x8b\x08|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|SQLite format 3"
)
"""Signatures of other files that are too long to occur at the start of raw audio by chance."""
_PICTURES: Final = {
    "avif": Kind("image/avif", "avif"),
    "avis": Kind("image/avif", "avif"),
    "heic": Kind("image/heic", "heic"),
    "heix": Kind("image/heic", "heic"),
    "mif1": Kind("image/heif", "heif"),
    "heim": Kind("image/heic", "heic"),
    "hevc": Kind("image/heic", "heic"),
    "msf1": Kind("image/heif", "heif"),
}
"""Brands of ISO base media files that hold still images."""


def inspect(file: BinaryIO, modality: Modality, *, raw_asked: bool = False) -> Media:
    """The type, duration and dimensions of a file, which is open for reading: one on disk, or a BytesIO.

    With `raw_asked`, raw audio was requested or declared, and bytes without a signature are taken for it. A file of a
    recognised type whose duration or dimensions cannot be determined is accepted. Raises Unusable if the file is not
    media of this modality, is empty or is truncated. Blocks.
    """
    spec = MODALITIES[modality]
    start = after_tags(lambda at, size: _at(file, at, size))
    head = _at(file, start, HEAD_BYTES)
    if not head:
        raise Unusable("an empty file" if start == 0 else "a tag without anything after it")
    kind, start = _recognise(file, start, head, raw=spec.takes_raw and raw_asked)
    try:
        return _measured(file, start, kind, spec)
    except Truncated as error:
        raise Unusable(f"{kind.content_type} that is cut off") from error
    except NoSound as error:
        raise Unusable("audio without any sound in it") from error


def is_media(head: bytes) -> bool:
    """Whether a file that starts with `head` has the signature of a media file, and so is not encoded any further."""
    return head.startswith(b"ID3") or kind_by_signature(head) is not None or _starts_with_frames(head)


def _starts_with_frames(head: bytes) -> bool:
    found = find_frames(head)
    return found is not None and found[0] == 0


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _recognise(file: BinaryIO, start: int, head: bytes, *, raw: bool) -> tuple[Kind, int]:
    """The kind of the file and the offset at which its content starts; `raw` audio may have no signature."""
    kind = kind_by_signature(head)
    if kind is not None and not (raw and kind in magic.SHORT_SIGNATURES):
        return kind, start
    if (text := text_in(head)) is not None:
        raise Unusable(f"not media, but {text}")
    if (shifted := kind_at_offset(head)) is not None:
        return shifted[0], start + shifted[1]
    if (found := find_frames(_at(file, start, SEARCHED_BYTES))) is not None:
        return found[1], start + found[0]
    kind = other_kind(head)
    if kind is not None and not (raw and kind.family == "image"):
        return kind, start
    if raw and not _NO_SOUND.match(head):
        return Kind(magic.UNKNOWN_TYPE, "raw"), start
    raise Unusable(f"not media, but {describe(head)}")


def _measured(file: BinaryIO, start: int, kind: Kind, spec: ModalitySpec) -> Media:
    contents = None
    if kind in (magic.MP4, magic.MATROSKA):
        contents = _tolerant(boxes_in if kind == magic.MP4 else elements_in, file, start) or Contents()
        kind = _kind_by_contents(kind, contents)
        if spec.family == "audio" and contents.picture and not contents.sound:
            raise Unusable(f"{kind.content_type} without any sound in it")
    # A video that contains the requested audio is accepted and stored unchanged.
    if kind.family not in (spec.family, spec.stands_in) and kind.content_type != magic.UNKNOWN_TYPE:
        raise Unusable(f"not {spec.family}/* but {kind.content_type}")
    if spec.family == "image":
        measure = PIXELS.get(kind)
        size = _tolerant(measure, file, start) if measure else contents.size if contents else None
        width, height = _visible(size)
        return Media(kind.content_type, kind.extension, width=width, height=height)
    seconds_of = SECONDS.get(kind)
    seconds = _tolerant(seconds_of, file, start) if seconds_of else contents.seconds if contents else None
    return Media(kind.content_type, kind.extension, duration_s=_audible(seconds))


def _kind_by_contents(kind: Kind, contents: Contents) -> Kind:
    if kind == magic.MATROSKA:
        web = contents.brand == "webm"
        if contents.sound and not contents.picture:
            return Kind("audio/webm", "webm") if web else Kind("audio/x-matroska", "mka")
        return Kind("video/webm", "webm") if web else kind
    brand = contents.brand
    if not contents.sound and not contents.picture:
        still = next((name for name in (brand, *sorted(contents.brands)) if name in _PICTURES), None)
        if still is not None:
            return _PICTURES[still]
    if brand == "qt  ":
        return Kind("video/quicktime", "mov")
    only_sound = contents.sound or brand in ("M4A ", "M4B ", "M4P ")
    family = "audio" if only_sound and not contents.picture else "video"
    if brand.startswith("3g"):
        return Kind(f"{family}/3gpp", "3gp")
    return Kind("audio/mp4", "m4a") if family == "audio" else kind


def _tolerant(measure: Callable[[BinaryIO, int], T | None], file: BinaryIO, start: int) -> T | None:
    try:
        return measure(file, start)
    except (Truncated, NoSound, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - malformed input may raise any error; the kind is known
        _log.info(OutputEvent.MEDIA_NOT_MEASURED, error=type(error).__name__)
        return None


def _audible(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds) or seconds > LONGEST_S:
        return None
    if seconds <= 0:
        raise NoSound
    return round(seconds, 3) or None


def _visible(size: tuple[int, int] | None) -> tuple[int, int] | tuple[None, None]:
    if size is None or max(size) >= 2**31:
        return None, None
    if min(size) < 1:
        raise Unusable(f"an image of {size[0]} by {size[1]} pixels")
    return size
