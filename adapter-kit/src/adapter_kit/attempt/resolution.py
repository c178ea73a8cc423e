"""When the absence of a lost submit from the provider's listing proves that there is no run. Pure.

If the listing is complete, absence is proof as soon as the listing has had time to catch up with the POST. Otherwise it
is proof at the end of the grace period, by which every accepted run is listed. Listing downtime extends the period.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from adapter_kit.attempt.inputs import Resolved
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import LostSubmit

CONCLUSIVE_AFTER_S: Final = 10.0
"""How long a complete listing may lag behind an accepted POST, in seconds."""
DOWN_AFTER_S: Final = 45.0
"""The listing is read about every 15 s; a gap between two answers longer than this, in seconds, counts as downtime."""
NO_RUN: Final = "the provider's listing does not show the run, though it would have by now"
SAID_SO: Final = "an operator looked at the provider, and says that it never accepted the run"


def listing_answered(lost: LostSubmit, now: datetime) -> LostSubmit:
    """The lost submit after an answer of the listing at `now`; a long gap before it is added to the downtime."""
    silent_s = (now - lost.listing_answered_at).total_seconds()
    downtime_s = lost.listing_downtime_s + (silent_s if silent_s > DOWN_AFTER_S else 0.0)
    return replace(lost, listing_answered_at=now, listing_downtime_s=downtime_s)


def proven_absent_at(attempt: Attempt, lost: LostSubmit, *, conclusive: bool) -> datetime:
    """The time from which every accepted run is in the listing, so that absence proves that there is none."""
    if conclusive:
        # A provider that answered has processed the POST. Otherwise the POST may last until its timeout.
        latest = lost.submit_started_at + timedelta(seconds=attempt.submit_timeout_s)
        return (lost.submit_answered_at or latest) + timedelta(seconds=CONCLUSIVE_AFTER_S)
    return lost.resolve_by + timedelta(seconds=lost.listing_downtime_s)


def is_outdated(verdict: Resolved, attempt: Attempt, lost: LostSubmit | None) -> bool:
    """Whether the verdict is older than the loss of the submit, and so cannot be about it; true if none was lost."""
    return lost is None or verdict.said_at <= lost.resolve_by - timedelta(seconds=attempt.grace_s)
