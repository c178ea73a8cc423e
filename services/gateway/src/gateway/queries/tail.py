"""The most recent jobs, read from Kafka: a GET right after a 202 finds its job on any replica."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from contracts.envelope import Envelope
from contracts.messages.requests import JobRequested
from gateway.queries.model import Job
from gateway.queries.model_from_rows import job_row
from gateway.queries.projection import Known, fold, revived_until
from read_model.merge import State
from read_model.tables import Row

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

MAX_OWN: Final = 2_000
"""Records of this process that the tail has not read back yet: a second's, of which the tail is rarely behind."""
MAX_JOBS: Final = 50_000
MAX_BYTES: Final = 128 * 1024 * 1024
"""The total size of the message bodies. An ordinary job has 2 or 3 kB of them, a hostile one may have megabytes."""
RECENT: Final = timedelta(minutes=2)
"""The lag of the read model up to which lists are complete."""


Place = tuple[str, int, int]
"""A record's topic, partition and offset."""


class JobTail:
    """The state of the most recently updated jobs: `max_jobs` jobs and `max_bytes` bytes of messages at most."""

    def __init__(self, max_jobs: int = MAX_JOBS, max_bytes: int = MAX_BYTES) -> None:
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._bytes = 0
        self._bytes_of: dict[str, int] = {}
        self._known: OrderedDict[str, Known] = OrderedDict()
        """Ordered by the last message, the oldest first."""
        self._updated_at: dict[str, float] = {}
        """By this process's monotonic clock."""
        self._job_of_track: dict[str, str] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._own: OrderedDict[Place, str] = OrderedDict()
        """The records that this process has published, and applied, with the job of each."""

    def take_own(self, envelope: Envelope, arrived_at: datetime, place: Place) -> None:
        """Apply a message that this process has published to that place."""
        self.take(envelope, arrived_at)
        self._own[place] = envelope.message.job_id
        if len(self._own) > MAX_OWN:
            self._own.popitem(last=False)

    def has_taken(self, record: ConsumerRecord[bytes, bytes]) -> bool:
        """Whether the record is one of `take_own`; it is asked once of each, and not known after that."""
        own = self._own.pop((record.topic, record.partition, record.offset), None)
        # In a topic that was created again, another record may have the place.
        return own is not None and record.key == own.encode()

    def take(self, envelope: Envelope, arrived_at: datetime | None) -> None:
        """Apply one message; `arrived_at` is the broker's timestamp of its record, None if it has none."""
        message = envelope.message
        if isinstance(message, JobRequested) and arrived_at is not None and arrived_at > message.accept_by:
            return  # The request will not be run, so a repeat of it must be published anew.
        job_id = message.job_id
        known = fold(self.known(job_id), envelope)
        self._known[job_id] = known
        self._known.move_to_end(job_id)
        self._updated_at[job_id] = time.monotonic()
        if (row := job_row(known.state)) is not None:
            self._job_of_track[row["track_id"]] = job_id
        self._bytes += envelope.size
        self._bytes_of[job_id] = self._bytes_of.get(job_id, 0) + envelope.size
        while len(self._known) > self._max_jobs or self._bytes > self._max_bytes:
            self._forget_oldest()
        changed = self._changed.pop(job_id, None)
        if changed is not None:
            changed.set()

    def _forget_oldest(self) -> None:
        job_id, forgotten = self._known.popitem(last=False)
        self._bytes -= self._bytes_of.pop(job_id)
        self._updated_at.pop(job_id)
        if (row := job_row(forgotten.state)) is not None:
            self._job_of_track.pop(row["track_id"], None)

    def known(self, job_id: str) -> Known:
        """The state of a job; empty if the tail does not have it."""
        return self._known.get(job_id) or Known()

    def of_track(self, track_id: str) -> Known:
        """The state of the job that makes this track; empty if the tail does not have it."""
        return self.known(self._job_of_track.get(track_id, ""))

    def recent(self, tenant: str, now: datetime) -> Iterator[tuple[Row, State]]:
        """A tenant's jobs with a message within the last two minutes, the last updated first.

        Each item is the job's own row and the state with all of its rows.
        """
        earliest = time.monotonic() - RECENT.total_seconds()
        for job_id, known in reversed(self._known.items()):
            if self._updated_at[job_id] < earliest:
                return
            row = job_row(known.state)
            # An operator's resolution for a job that ended long ago is a recent message, and does not update the job.
            if row is not None and row["tenant"] == tenant and row["updated_at"] >= now - RECENT:
                yield row, known.state

    async def final(self, job_id: str) -> Job:
        """Wait, without a time limit, until the job has ended, and return it.

        The end of an expired job does not count once a repeat of its request revives it.
        """
        while True:
            known = self.known(job_id)
            job = known.job
            if job is not None and job.final and revived_until(known.state) is None:
                return job
            await self._changed.setdefault(job_id, asyncio.Event()).wait()
