"""The open parts of a JSON document while it is read: its containers, and the text under way. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Container:
    """An object or a list that has not been closed yet."""

    closer: bytes
    limit: int
    """No part is begun once so many bytes have been kept in all."""
    side: bool
    parts: int = 0
    wants_key: bool = False
    key: bytes = b""
    due: bytes = b""
    """What its last member needs to be one."""


@dataclass(slots=True)
class Text:
    """The text that is being read."""

    starts_at: int
    """Where in what is kept its content begins."""
    room: int
    """How many more bytes of it are kept."""
    is_key: bool
    skipped: bool
    room_for_file: bool = False
    """It may turn out to be a file, which gets more room."""
    cut: bool = False
    file: bool = False
    """It is a file in base64, and counts as such."""
