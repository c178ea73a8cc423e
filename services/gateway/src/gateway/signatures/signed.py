"""The parts of a signed callback that all signature schemes have, and the check of its age. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOLERANCE_S: Final = 300
"""The allowed difference in seconds between the time of a signature and now, in either direction."""


class NotFresh(Exception):
    """A callback was signed too long ago, or in the future; the message contains the difference."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The id, the time, the signed content and the signatures of a callback, not verified yet."""

    delivery_id: str
    signed_at: int
    """Unix time in seconds."""
    content: bytes
    signatures: tuple[bytes, ...]

    def require_fresh(self, now_s: float) -> None:
        """Check that the signature is recent: an older one may be a replay. Raises NotFresh if it is not."""
        age_s = now_s - self.signed_at
        if abs(age_s) > TOLERANCE_S:
            raise NotFresh(f"{abs(age_s):.0f} s {'ago' if age_s > 0 else 'in the future'}")


def seconds(text: str) -> int | None:
    """The Unix time in a header, in seconds; None if it is malformed."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None
