"""Decoding of an output that was sent compressed or framed."""

from __future__ import annotations

from typing import BinaryIO, Final

from adapter_kit.artifacts.spool import Spool
from adapter_kit.http.decoding import MAX_CODINGS, PIECE_BYTES, Damaged, coding_of, decoder_for
from adapter_kit.media.inspect import HEAD_BYTES, Unusable, is_media


class TooLarge(Exception):
    """The output is larger than the setting allows."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"larger than {max_bytes} bytes, the most that Segue is set to keep")


_SURE: Final = frozenset({"gzip", "zstd"})
"""Codings with an unambiguous signature."""


def unwrap(spool: Spool, named: list[str], max_bytes: int) -> None:
    """Decode the output, by the signatures of its bytes, and for codings without a signature by the `named` ones.

    `named`: the codings from the response header. An output that is not encoded is left unchanged. Raises TooLarge if
    the decoded one has more than `max_bytes`, Unusable if it is damaged or truncated, and OSError. Blocks.
    """
    for _ in range(MAX_CODINGS):
        source = spool.file()
        head = source.read(HEAD_BYTES)
        coding = None if is_media(head) else coding_of(head, named)
        if coding is None:
            return
        named = [each for each in named if each != coding]
        source.seek(0)
        with spool.empty() as plain:
            try:
                _decode(source, head, plain, coding, max_bytes)
            except Damaged as error:
                if coding in _SURE:
                    raise Unusable(f"{coding} that cannot be unpacked: {error}") from error
                continue
            spool.replace(plain)


def _decode(source: BinaryIO, head: bytes, plain: Spool, coding: str, max_bytes: int) -> None:
    decoder = decoder_for(coding, head[:2])
    while piece := source.read(PIECE_BYTES):
        for each in decoder.feed(piece):
            if plain.size + len(each) > max_bytes:
                raise TooLarge(max_bytes)
            plain.append(each)
    decoder.finish()
