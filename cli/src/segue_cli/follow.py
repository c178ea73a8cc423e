"""Following a job's log: each line once, as it comes, until the job has ended and its log is whole."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final

from segue_cli.api import FINAL, Api
from segue_cli.job_screens import short

EVERY_S: Final = 0.1
_ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled"})
_WHOLE_WITHIN_S: Final = 5.0


def follow_log(segue: Api, job_id: str, *, within_s: float = math.inf) -> Iterator[dict[str, Any]]:
    """The lines of a job's log; when they end, so has the job, or `within_s` has passed. Raises ApiFailed."""
    seen: set[tuple[Any, ...]] = set()
    told = ended = False
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for entry in segue.log(job_id):
            mark = (entry["time"], entry["event"], entry["attempt"], entry["message"])
            if mark not in seen:
                seen.add(mark)
                told = told or short(entry["event"]) in _ENDS
                yield entry
        if told:
            return
        if not ended and segue.job(job_id)["status"] in FINAL:
            # The log comes from the database, which may be a moment behind.
            ended, deadline = True, time.monotonic() + _WHOLE_WITHIN_S
        time.sleep(EVERY_S)
