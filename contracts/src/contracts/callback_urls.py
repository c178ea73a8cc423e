"""Callback URLs for providers: each names one attempt and carries a MAC, by which the gateway authenticates it."""

from __future__ import annotations

import hmac
import re
from typing import Final

from contracts.generation import Provider
from contracts.ids import AttemptId

CALLBACKS_PATH: Final = "/api/callbacks"

_LAST_NAME: Final = CALLBACKS_PATH.rpartition("/")[2]

_SLASH: Final = r"(?:\\{0,9}/|%(?:25){0,9}2f|\\{1,9}u002f|&#(?:x2f|47);)"
"""A slash in a URL, or the escape of one in JSON, HTML or percent-encoding, also when escaped several times."""
_NAME: Final = rf"(?:(?!{_SLASH})\S)+"
_WITH_MAC: Final = re.compile(
    rf"({_SLASH.join(CALLBACKS_PATH.split('/'))}{_SLASH}{_NAME}{_SLASH}{_NAME}{_SLASH})[0-9a-f]+", re.IGNORECASE
)


def callback_url(public_url: str, secret: str, provider: Provider, attempt_id: AttemptId) -> str:
    """The URL to which the provider sends callbacks about this attempt only."""
    return f"{public_url}{CALLBACKS_PATH}/{provider}/{attempt_id}/{_mac(secret, provider, attempt_id)}"


def mac_is_right(secret: str, provider: str, attempt_id: str, mac: str) -> bool:
    """Whether `mac` is the one that `callback_url` makes for this provider and attempt; compared in constant time."""
    return hmac.compare_digest(_mac(secret, provider, attempt_id).encode(), mac.encode())


def without_mac(text: str) -> str:
    """The text with the MAC of each callback URL in it replaced by `***`, for logs and traces."""
    # Case-folded, as the pattern ignores case. Hardly any text is about callbacks.
    return _WITH_MAC.sub(r"\1***", text) if _LAST_NAME in text.casefold() else text


def _mac(secret: str, provider: str, attempt_id: str) -> str:
    return hmac.digest(secret.encode(), f"{provider}/{attempt_id}".encode(), "sha256").hex()
