"""The open parts of a JSON document while it is read: its containers and the current string. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Container:
    """An object or a list that is still open."""

    closer: bytes
    limit: int
    """Once so many bytes have been kept in total, the rest of the container is omitted."""
    side: bool
    """It is not evaluated, such as logs."""
    parts: int = 0
    wants_key: bool = False
    key: bytes = b""
    pending: bytes = b""
    """The bytes that complete its last member if the document is closed early."""


@dataclass(slots=True)
class Text:
    """The string that is being read."""

    starts_at: int
    """The offset of its content in the kept bytes."""
    room: int
    """How many more of its bytes are kept."""
    is_key: bool
    skipped: bool
    room_for_file: bool = False
    """It may still prove to be a file, which has a larger limit."""
    cut: bool = False
    file: bool = False
    """It is a base64 file; its bytes count towards `FILE_BYTES`."""
