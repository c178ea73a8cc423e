"""Following a job's log: each line once, in order, until the job has ended and its log is complete."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final

from segue_cli.commands.api import FINAL, Api
from segue_cli.views.jobs import short

EVERY_S: Final = 0.1
SETTLES_S: Final = 0.4
"""How long a line is held back for earlier ones, in seconds: events of jobs arrive a moment before those of attempts.
"""
WORDS_WITHIN_S: Final = 2.0
"""How long a line waits for its text, in seconds. The text is in the database; if that is unavailable, there is none.
"""

_ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
_WHOLE_WITHIN_S: Final = 30.0


def follow_log(segue: Api, job_id: str, *, within_s: float = math.inf) -> Iterator[dict[str, Any]]:
    """The lines of a job's log, until the job has ended or `within_s` seconds have passed. Raises ApiFailed."""
    first_seen: dict[tuple[Any, ...], float] = {}
    told: set[tuple[Any, ...]] = set()
    ended = False
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for entry in segue.log(job_id):
            mark = (entry["time"], entry["event"], entry["attempt"])
            if mark in told:
                continue
            waited_s = time.monotonic() - first_seen.setdefault(mark, time.monotonic())
            if waited_s < (SETTLES_S if entry["message"] else WORDS_WITHIN_S):
                break
            told.add(mark)
            yield entry
            if short(entry["event"]) in _ENDS:
                return
        if not ended and segue.job(job_id)["status"] in FINAL:
            ended, deadline = True, time.monotonic() + _WHOLE_WITHIN_S
        time.sleep(EVERY_S)
