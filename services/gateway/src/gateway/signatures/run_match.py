"""Which run a provider's webhook is about, and whether that is the run of the attempt at whose address it came. Pure.

The MAC proves the address, and the provider's signature the body. What ties the one to the other is in the body alone:
without a look at it, a genuine webhook could be sent to every address that somebody has learned of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from contracts.callback_urls import CALLBACKS_PATH
from contracts.providers.spec import ProviderSpec

_ID: Final = re.compile(r"[!-~]{1,300}")
_ADDRESS: Final = re.compile(rf"{CALLBACKS_PATH}/[a-z]+/([^/\s]+)/")


class RunMismatch(Exception):
    """A webhook is about another run than its address."""

    def __init__(self, run: str, *, of_another_attempt: bool) -> None:
        """`run` is the provider's id of the run; it is known to be another attempt's, or only not this one's."""
        super().__init__(f"the webhook is about the run {run}")
        self.run = run
        self.of_another_attempt = of_another_attempt


@dataclass(frozen=True, slots=True)
class About:
    """What a webhook's body says of itself."""

    run: str | None
    """The provider's id of the run; None where the body names none."""
    attempt_id: str | None
    """The attempt whose address the run was given, where the body repeats it."""


def about(provider: ProviderSpec, body: JsonValue) -> About:
    """What a webhook's body is about."""
    told = body if isinstance(body, dict) else {}
    run, webhook = told.get(provider.run_id_key), told.get(provider.address_key or "")
    address = _ADDRESS.search(webhook) if provider.address_key and isinstance(webhook, str) else None
    named = run if isinstance(run, str) and _ID.fullmatch(run) else None
    return About(named, address[1] if address else None)


def require_own_run(said: About, attempt_id: str, known: Mapping[str, str | None]) -> None:
    """Raises RunMismatch if the body, or `known`, the runs of attempts, shows that the run is not this attempt's.

    Where the attempt's run is not known yet, and nobody else has this one, it may be: webhooks overtake answers.
    """
    own = known.get(attempt_id)
    if said.run is None or own == said.run:
        return
    elsewhere = said.run in known.values() or said.attempt_id not in (None, attempt_id)
    if elsewhere or own is not None:
        raise RunMismatch(said.run, of_another_attempt=elsewhere)
