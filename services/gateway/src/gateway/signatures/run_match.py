"""Checks that a callback is about the run of the attempt to whose address it was sent. Pure.

The MAC authenticates the address, and the provider's signature authenticates the body. Only the content of the body
connects the two: without this check, a genuine callback could be replayed to the address of any other attempt.
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
    """A callback is about another run than that of the attempt in its address."""

    def __init__(self, run: str, *, of_another_attempt: bool) -> None:
        """`run` is the provider's id of the run; `of_another_attempt` tells whether it is known to be another's."""
        super().__init__(f"the callback is about the run {run}")
        self.run = run
        self.of_another_attempt = of_another_attempt


@dataclass(frozen=True, slots=True)
class About:
    """The subject of a callback, from its body."""

    run: str | None
    """The provider's id of the run; None if the body has none."""
    attempt_id: str | None
    """The attempt in the callback URL that the run was submitted with; None if the body does not contain the URL."""


def about(provider: ProviderSpec, body: JsonValue) -> About:
    """The subject of a callback, read from the members of its body that the provider's spec names."""
    members = body if isinstance(body, dict) else {}
    run, url = members.get(provider.run_id_key), members.get(provider.address_key or "")
    address = _ADDRESS.search(url) if provider.address_key and isinstance(url, str) else None
    valid_run = run if isinstance(run, str) and _ID.fullmatch(run) else None
    return About(valid_run, address[1] if address else None)


def require_own_run(subject: About, attempt_id: str, runs: Mapping[str, str | None]) -> None:
    """Check that a callback may be about the run of this attempt. Raises RunMismatch if not.

    `runs` are the known runs by attempt id. A run that no other attempt has is accepted while the attempt's own run is
    not known, since a callback may arrive before the response to the submit.
    """
    own = runs.get(attempt_id)
    if subject.run is None or own == subject.run:
        return
    of_another = subject.run in runs.values() or subject.attempt_id not in (None, attempt_id)
    if of_another or own is not None:
        raise RunMismatch(subject.run, of_another_attempt=of_another)
