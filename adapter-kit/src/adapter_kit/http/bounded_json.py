"""Shortens JSON of any size while it is received; the result is valid JSON with its large values truncated. Pure.

A provider's response may contain a hundred megabytes of a run's logs before the member that holds the run's status. A
streaming parser does not help, because a string of that size is a single token. This module works on the bytes:
strings, lists and objects over their limit lose their ends, and everything else is kept unchanged.
"""

from __future__ import annotations

import re
from typing import Final

from adapter_kit.http.json_parts import (
    BLANKS,
    ELEMENTS,
    LEFT_OUT,
    LITERAL,
    LONGEST_ESCAPE,
    MEMBERS,
    UNITS,
    Container,
    Text,
    whole_characters,
)

TEXT_BYTES: Final = 256 * 1024
"""Limit of a string: more than any input that Segue sends, because inputs are compared with those in the response."""
FILE_BYTES: Final = 32 * 1024 * 1024
"""Limit of all base64 files in a response together."""
SIDE_BYTES: Final = 4 * 1024
"""Limit of a member that is not evaluated, such as logs."""
SHARE_BYTES: Final = 8 * 1024 * 1024
"""Limit of one member of the response, so that it leaves room for the others."""
TOTAL_BYTES: Final = 16 * 1024 * 1024
MAX_KEY_BYTES: Final = 1000
MAX_LITERAL_BYTES: Final = 1000
CUT: Final = b"[cut]"
"""Marker at the end of a truncated string."""

_SIDE: Final = frozenset({b"logs", b"log"})
_SIDE_IN_LISTS: Final = _SIDE | {b"output", b"json_output"}
"""Of the runs in a listing, only ids and inputs are evaluated."""
_LIST_DEPTH: Final = 3
_FILE: Final = re.compile(rb"\s{0,8}(data:|[A-Za-z0-9+/_-]{200})", re.IGNORECASE)


class BoundedJson:
    """Shortens JSON that is fed in pieces. Input that is not valid JSON yields output that is not valid either."""

    def __init__(self) -> None:
        self.complete = True
        """False if elements or members were omitted, other than those that are not evaluated.

        Truncated strings do not count.
        """
        self._kept = bytearray()
        self._files = 0
        self._stack: list[Container] = []
        self._text: Text | None = None
        self._literal_from: int | None = None
        self._skipping: int | None = None
        """While the rest of a container is omitted: the number of open containers within the omitted part."""
        self._held = b""

    def feed(self, piece: bytes) -> None:
        """Process the next piece."""
        data, self._held = self._held + piece, b""
        at = 0
        while at < len(data):
            if self._skipping is not None and self._text is None and (left_out := LEFT_OUT.match(data, at)):
                at = left_out.end()
                if at == len(data):
                    return
            at = self._structure(data, at) if self._text is None else self._content(data, at, self._text)

    def finish(self, *, cut_short: bool = False) -> bytes:
        """The shortened JSON. With `cut_short`, the input ended early and every open string and container is closed."""
        if cut_short:
            self.complete = False
            self._close_all()
        return bytes(self._kept)

    # --- Outside strings ---

    def _structure(self, data: bytes, at: int) -> int:
        if (end := self._small_parts(data, at)) is not None:
            return end
        byte = data[at : at + 1]
        if byte in b'"{}[],:' or byte.isspace():
            self._literal_from = None
        if byte == b'"':
            self._begin_text()
        elif byte in (b"{", b"["):
            self._open(byte)
        elif byte in (b"}", b"]"):
            self._close(byte)
        elif byte == b",":
            self._next_part()
        elif byte == b":":
            self._colon()
        elif (blanks := BLANKS.match(data, at)) is not None:
            return blanks.end()
        else:
            return self._literal(data, at)
        return at + 1

    def _small_parts(self, data: bytes, at: int) -> int | None:
        """The end of the run of small members or elements that starts at `at`; None if there is none.

        The run is kept unchanged.
        """
        container = self._stack[-1] if self._stack and self._skipping is None else None
        if container is None or self._literal_from is not None:
            return None
        if container.closer == b"}" and not container.wants_key:
            return None
        found = (MEMBERS if container.wants_key else ELEMENTS).match(data, at, at + SIDE_BYTES)
        if found is None or not self._begin_part():
            return None if found is None else at
        self._kept += found[0].rstrip(b", \t\r\n")
        return found.end()

    def _open(self, opener: bytes) -> None:
        if self._skipping is None and self._begin_part():
            used, depth = self._used(), len(self._stack)
            parent = self._stack[-1] if self._stack else None
            side = parent is not None and (parent.side or self._is_side(parent))
            limit = 2 * TOTAL_BYTES if parent is None else parent.limit
            if depth == 1:
                limit = min(used + SHARE_BYTES, max(used, TOTAL_BYTES))
            if side and parent is not None and not parent.side:
                limit = min(limit, used + SIDE_BYTES)
            self._kept += opener
            closer = b"}" if opener == b"{" else b"]"
            self._stack.append(Container(closer, limit, side, wants_key=opener == b"{"))
        elif self._skipping is not None:
            self._skipping += 1

    def _close(self, closer: bytes) -> None:
        if self._skipping:
            self._skipping -= 1
            return
        self._skipping = None
        if self._stack:
            self._stack.pop()
        self._kept += closer

    def _next_part(self) -> None:
        if self._skipping is not None:
            return
        if self._stack:
            self._stack[-1].wants_key = self._stack[-1].closer == b"}"
        else:
            self._kept += b","  # Invalid JSON stays invalid.

    def _literal(self, data: bytes, at: int) -> int:
        found = LITERAL.match(data, at)
        end = found.end() if found else at + 1
        if self._literal_from is None and self._skipping is None and self._begin_part():
            self._literal_from = len(self._kept)
        if self._literal_from is not None:
            room = MAX_LITERAL_BYTES - (len(self._kept) - self._literal_from)
            self._kept += data[at : min(end, at + max(room, 0))]
        return end

    def _colon(self) -> None:
        if self._skipping is None:
            self._kept += b":"
            if self._stack:
                self._stack[-1].pending = b"null"

    def _begin_part(self) -> bool:
        """Whether the member (at its key) or the element that starts here is kept.

        After the first that is omitted, the rest of its container is omitted too.
        """
        if not self._stack:
            return True
        container = self._stack[-1]
        if container.closer == b"}" and not container.wants_key:
            container.pending = b""
            return True  # Its key was kept.
        if self._used() >= container.limit:
            self._skipping = 0
            self.complete = self.complete and container.side
            return False
        if container.parts:
            self._kept += b","
        container.parts += 1
        return True

    def _is_side(self, parent: Container) -> bool:
        names = _SIDE_IN_LISTS if len(self._stack) >= _LIST_DEPTH else _SIDE
        return parent.key in names

    def _used(self) -> int:
        return len(self._kept) - self._files

    # --- Within strings ---

    def _begin_text(self) -> None:
        container = self._stack[-1] if self._stack else None
        is_key = container is not None and container.wants_key and self._skipping is None
        if self._skipping is not None or not self._begin_part():
            self._text = Text(0, 0, is_key=False, skipped=True)
            return
        self._kept += b'"'
        side = container is not None and (container.side or self._is_side(container))
        room = MAX_KEY_BYTES if is_key else SIDE_BYTES if side else self._room(container)
        self._text = Text(len(self._kept), room, is_key, skipped=False, room_for_file=not is_key and not side)

    def _room(self, container: Container | None) -> int:
        if container is None:
            return TEXT_BYTES
        return max(SIDE_BYTES, min(TEXT_BYTES, container.limit - self._used()))

    def _content(self, data: bytes, at: int, text: Text) -> int:
        found = UNITS.match(data, at)
        end = found.end() if found else at
        if end > at and not text.skipped:
            self._keep_content(data, at, end, text)
        if end == len(data):
            return end
        if data[end : end + 1] == b'"':
            self._end_text(text)
            return end + 1
        if len(data) - end < LONGEST_ESCAPE:
            self._held = data[end:]
            return len(data)
        # An invalid escape is kept, so that the parser rejects the result.
        if not text.skipped and not text.cut:
            self._kept += data[end : end + 2]
        return end + 2

    def _keep_content(self, data: bytes, at: int, end: int, text: Text) -> None:
        if end - at > text.room and text.room_for_file:
            self._detect_file(data, at, text)
        fits = end
        if end - at > text.room:
            units = UNITS.match(data, at, at + text.room)
            fits = units.end() if units else at
            text.cut = True
        self._kept += data[at:fits]
        if text.file:
            self._files += fits - at
        text.room = 0 if text.cut else text.room - (fits - at)

    def _detect_file(self, data: bytes, at: int, text: Text) -> None:
        text.room_for_file = False
        so_far = bytes(self._kept[text.starts_at : text.starts_at + 256])
        if _FILE.match(so_far + data[at : at + 256 - len(so_far)]) and self._files < FILE_BYTES:
            text.file = True
            self._files += len(self._kept) - text.starts_at
            text.room = FILE_BYTES - self._files

    def _end_text(self, text: Text) -> None:
        self._text = None
        if text.skipped:
            return
        if text.is_key:
            self._stack[-1].key = bytes(self._kept[text.starts_at :])
            self._stack[-1].wants_key = False
            self._stack[-1].pending = b":null"
        if text.cut:
            del self._kept[whole_characters(self._kept, text.starts_at) :]
            self._kept += CUT
        self._kept += b'"'

    # --- The end ---

    def _close_all(self) -> None:
        if self._text is not None:
            self._text.cut = True
            self._end_text(self._text)
        if self._literal_from is not None:
            # A literal without its end would be invalid JSON.
            del self._kept[self._literal_from :]
            self._kept += b"null"
        for container in reversed(self._stack):
            self._kept += container.pending + container.closer
        self._stack.clear()
