"""What every signature scheme finds in a webhook, and how fresh it has to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOLERANCE_S: Final = 300
"""How far a signature's time may lie from ours, either way."""


class NotFresh(Exception):
    """A webhook was signed too long ago, or in the future; the message says when."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a webhook says of itself: which delivery it is, when it was signed, and the signatures to check."""

    delivery_id: str
    signed_at: int
    """Unix time in seconds."""
    content: bytes
    signatures: tuple[bytes, ...]

    def require_fresh(self, now_s: float) -> None:
        """Raises NotFresh unless it was signed just now; an older one may be a replay."""
        age_s = now_s - self.signed_at
        if abs(age_s) > TOLERANCE_S:
            raise NotFresh(f"{abs(age_s):.0f} s {'ago' if age_s > 0 else 'in the future'}")


def seconds(text: str) -> int | None:
    """The Unix time that a header has, in seconds; None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None
