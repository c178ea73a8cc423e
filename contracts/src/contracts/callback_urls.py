"""The addresses that providers call back: each names its attempt, and has a MAC by which the gateway knows its own."""

from __future__ import annotations

import hmac
import re
from typing import Final

from contracts.generation import Provider
from contracts.ids import AttemptId

CALLBACKS_PATH: Final = "/api/callbacks"

_SLASH: Final = r"(?:\\{0,9}/|%(?:25){0,9}2f|\\{1,9}u002f|&#(?:x2f|47);)"
"""A slash as it stands in a URL, and as JSON, HTML or another URL, however deep, may write it."""
_NAME: Final = rf"(?:(?!{_SLASH})\S)+"
_WITH_MAC: Final = re.compile(
    rf"({_SLASH.join(CALLBACKS_PATH.split('/'))}{_SLASH}{_NAME}{_SLASH}{_NAME}{_SLASH})[0-9a-f]+", re.IGNORECASE
)


def callback_url(public_url: str, secret: str, provider: Provider, attempt_id: AttemptId) -> str:
    """Where the provider may call back about this attempt, and about no other."""
    return f"{public_url}{CALLBACKS_PATH}/{provider}/{attempt_id}/{_mac(secret, provider, attempt_id)}"


def mac_is_right(secret: str, provider: str, attempt_id: str, mac: str) -> bool:
    """Whether `callback_url` made the address that these are from; takes as long whatever they are."""
    return hmac.compare_digest(_mac(secret, provider, attempt_id).encode(), mac.encode())


def without_mac(text: str) -> str:
    """The text, fit for logs and traces: addresses in it name their attempt and no more."""
    return _WITH_MAC.sub(r"\1***", text)


def _mac(secret: str, provider: str, attempt_id: str) -> str:
    return hmac.digest(secret.encode(), f"{provider}/{attempt_id}".encode(), "sha256").hex()
