"""Decoding of a file that was sent compressed or framed, in place."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from adapter_kit.http.decoding import MAX_CODINGS, PIECE_BYTES, Damaged, coding_of, decoder_for
from adapter_kit.media.inspect import HEAD_BYTES, Unusable, is_media


class TooLarge(Exception):
    """The output is larger than the setting allows."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"larger than {max_bytes} bytes, the most that Segue is set to keep")


_SURE: Final = frozenset({"gzip", "zstd"})
"""Codings with an unambiguous signature."""


def unwrap(path: Path, named: list[str], max_bytes: int) -> None:
    """Decode the file, by the signatures of its bytes, and for codings without a signature by the `named` ones.

    `named`: the codings from the response header. A file that is not encoded is left unchanged. Raises TooLarge if the
    decoded file has more than `max_bytes`, and Unusable if it is damaged or truncated. Blocks.
    """
    for _ in range(MAX_CODINGS):
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        coding = None if is_media(head) else coding_of(head, named)
        if coding is None:
            return
        named = [each for each in named if each != coding]
        plain = path.with_name(path.name + ".plain")
        try:
            _decode(path, plain, coding, max_bytes)
            # A collection that was given up meanwhile has deleted its file.
            if path.exists():
                plain.replace(path)
        except Damaged as error:
            if coding in _SURE:
                raise Unusable(f"{coding} that cannot be unpacked: {error}") from error
        finally:
            plain.unlink(missing_ok=True)


def _decode(path: Path, plain: Path, coding: str, max_bytes: int) -> None:
    size = 0
    with path.open("rb") as source, plain.open("wb") as target:
        decoder = decoder_for(coding, source.peek(2)[:2])
        while piece := source.read(PIECE_BYTES):
            for each in decoder.feed(piece):
                size += len(each)
                if size > max_bytes:
                    raise TooLarge(max_bytes)
                target.write(each)
        decoder.finish()
