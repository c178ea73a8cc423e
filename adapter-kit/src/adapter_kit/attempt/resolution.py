"""What a provider's listing proves when it does not show a lost submit. Pure.

A listing that shows every run at once proves at once that there is none. Any other proves it at the end of the grace,
in which an accepted run must have shown itself; and for as long as the listing could not be asked, the grace is longer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from adapter_kit.attempt.inputs import Resolved
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import LostSubmit

CONCLUSIVE_AFTER_S: Final = 10.0
"""How long a complete listing may lag behind an accepted POST."""
DOWN_AFTER_S: Final = 45.0
"""A listing that is asked every 15 s or so, and has not answered for longer than this, was not to be heard."""
NO_RUN: Final = "the provider's listing does not show the run, though it would have by now"
SAID_SO: Final = "an operator looked at the provider, and says that it never accepted the run"


def listing_answered(lost: LostSubmit, now: datetime) -> LostSubmit:
    """The lost submit once the listing has answered: a long time without an answer before counts as downtime."""
    silent_s = (now - lost.listing_answered_at).total_seconds()
    downtime_s = lost.listing_downtime_s + (silent_s if silent_s > DOWN_AFTER_S else 0.0)
    return replace(lost, listing_answered_at=now, listing_downtime_s=downtime_s)


def proven_absent_at(attempt: Attempt, lost: LostSubmit, *, conclusive: bool) -> datetime:
    """When a run that the provider accepted is in its listing for sure."""
    if conclusive:
        # Having answered, the provider is done with the POST; else it may be under way for all of its time.
        latest = lost.submit_started_at + timedelta(seconds=attempt.submit_timeout_s)
        return (lost.submit_answered_at or latest) + timedelta(seconds=CONCLUSIVE_AFTER_S)
    return lost.resolve_by + timedelta(seconds=lost.listing_downtime_s)


def is_outdated(verdict: Resolved, attempt: Attempt, lost: LostSubmit | None) -> bool:
    """Whether the submit was not lost yet when an operator looked, so that the verdict cannot be about it."""
    return lost is None or verdict.said_at <= lost.resolve_by - timedelta(seconds=attempt.grace_s)
