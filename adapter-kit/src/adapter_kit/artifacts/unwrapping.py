"""Decoding of a file that was sent compressed or framed, in place."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, Final

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
        with TemporaryFile(dir=path.parent) as plain:
            try:
                _decode(path, plain, coding, max_bytes)
            except Damaged as error:
                if coding in _SURE:
                    raise Unusable(f"{coding} that cannot be unpacked: {error}") from error
                continue
            _replace(path, plain)


def _replace(path: Path, plain: IO[bytes]) -> None:
    """Copy into the file, instead of renaming: a collection that was given up has deleted it, and it must stay so."""
    plain.seek(0)
    with path.open("r+b") as target:
        copyfileobj(plain, target, PIECE_BYTES)
        target.truncate()


def _decode(path: Path, target: IO[bytes], coding: str, max_bytes: int) -> None:
    size = 0
    with path.open("rb") as source:
        decoder = decoder_for(coding, source.peek(2)[:2])
        while piece := source.read(PIECE_BYTES):
            for each in decoder.feed(piece):
                size += len(each)
                if size > max_bytes:
                    raise TooLarge(max_bytes)
                target.write(each)
        decoder.finish()
