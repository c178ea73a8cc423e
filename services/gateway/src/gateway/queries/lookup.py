"""Finding things where the tail and the read model may each know half."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Generic, TypeVar

from aiokafka.errors import KafkaError

from contracts.generation import Provider
from contracts.ids import ATTEMPT_ID_PATTERN, JOB_ID_PATTERN
from gateway.queries.errors import NotFound, ReadModelUnavailable, TailBehind
from gateway.queries.log_order import merged_log
from gateway.queries.model import AttemptOfJob, Job, LogLine, Track
from gateway.queries.model_from_rows import job_of, track_of
from gateway.queries.projection import Known
from gateway.queries.read_model_sql import Cursor, JobFilter, ReadModel
from gateway.queries.single_flight import SingleFlight
from gateway.queries.tail import JobTail
from read_model.merge import State, joined, row_of
from read_model.tables import JOBS, TRACKS, Row, Table

_ID: Final = re.compile(JOB_ID_PATTERN)
_ATTEMPT_ID: Final = re.compile(ATTEMPT_ID_PATTERN)
_MUSIC: Final = frozenset({None, "music"})
"""Until its request has arrived, a track's modality is not known."""
CATCH_UP_LIMIT_S: Final = 1.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was found; stale, if the database could not be asked for more."""

    value: T
    stale: bool = False


class Lookup:
    """Jobs, tracks and attempts as the tail and the read model together tell them.

    A question for one thing raises NotFound if there is none; any raises ReadModelUnavailable if that is not known.
    A job or track that neither knows is looked for again once the tail has read what Kafka has by then: another replica
    may have accepted it a moment ago. Raises TailBehind if that takes longer than a second.
    """

    def __init__(self, tail: JobTail, reads: ReadModel, catch_up: Callable[[], Awaitable[None]]) -> None:
        """`catch_up` waits until the tail has read all that Kafka has at the time of the call."""
        self._tail = tail
        self._reads = reads
        self._caught_up = SingleFlight(catch_up, within_s=CATCH_UP_LIMIT_S, at_most_old_s=0)

    async def job(self, job_id: str, tenant: str) -> Found[Job]:
        """One job."""
        if not _ID.match(job_id):
            raise NotFound("job", job_id)
        tailed = _own(self._tail.known(job_id), tenant)
        try:
            job = job_of(joined(await self._reads.job(job_id, tenant), tailed))
        except ReadModelUnavailable:
            if (tailed_job := job_of(tailed)) is None:
                raise
            return Found(tailed_job, stale=True)
        if job is None:
            await self._catch_up("job", job_id)
            job = job_of(_own(self._tail.known(job_id), tenant))
        if job is None:
            raise NotFound("job", job_id)
        return Found(job)

    async def stored(self, job_id: str, tenant: str) -> Job | None:
        """One job as the read model has it; None also where that does not answer within 2 s."""
        try:
            async with asyncio.timeout(1.5):  # Giving the connection back may take the rest.
                return job_of(await self._reads.job(job_id, tenant))
        except (ReadModelUnavailable, TimeoutError):
            return None

    async def log(self, job_id: str, tenant: str) -> tuple[Job, list[LogLine]]:
        """A job and everything that happened to it."""
        job = (await self.job(job_id, tenant)).value
        tailed = self._tail.known(job_id).log
        try:
            return job, merged_log(await self._reads.log(job_id), tailed)
        except ReadModelUnavailable:
            return job, merged_log([], tailed)

    async def track(self, track_id: str, tenant: str) -> Found[Track]:
        """One track."""
        if not _ID.match(track_id):
            raise NotFound("track", track_id)
        tailed = _own(self._tail.of_track(track_id), tenant)
        try:
            track = track_of(joined(await self._reads.track(track_id, tenant), tailed))
        except ReadModelUnavailable:
            if (tailed_track := track_of(tailed)) is None:
                raise
            return Found(tailed_track, stale=True)
        if track is None:
            await self._catch_up("track", track_id)
            track = track_of(_own(self._tail.of_track(track_id), tenant))
        if track is None:
            raise NotFound("track", track_id)
        return Found(track)

    async def _catch_up(self, kind: str, identifier: str) -> None:
        try:
            await self._caught_up.get()
        except (KafkaError, OSError, TimeoutError) as error:
            raise TailBehind(kind, identifier) from error

    async def attempt(self, attempt_id: str, tenant: str) -> AttemptOfJob:
        """One attempt, as the read model has it."""
        if not _ATTEMPT_ID.match(attempt_id):
            raise NotFound("attempt", attempt_id)
        found = await self._reads.attempt(attempt_id, tenant)
        if found is None:
            raise NotFound("attempt", attempt_id)
        return found

    async def attempts(
        self, tenant: str, provider: Provider | None, below: Cursor | None, limit: int, *, ambiguous: bool
    ) -> list[AttemptOfJob]:
        """Some attempts, the newest first, as the read model has them."""
        return await self._reads.attempts(tenant, provider, below, limit, ambiguous=ambiguous)

    async def other_of_run(self, attempt: AttemptOfJob, provider_ref: str) -> str | None:
        """Another attempt than this one, of any tenant, whose run at the provider that is."""
        return await self._reads.other_of_run(attempt.attempt.provider, provider_ref, attempt.attempt_id)

    async def runs(self, provider: Provider, provider_ref: str, attempt_id: str) -> dict[str, str | None]:
        """The runs of this attempt and of all that have that run; empty where nobody can be asked right now."""
        try:
            return await self._reads.runs(provider, provider_ref, attempt_id)
        except ReadModelUnavailable:
            return {}

    async def jobs(self, tenant: str, wanted: JobFilter, below: Cursor | None, limit: int, now: datetime) -> list[Job]:
        """Some jobs, the newest first."""
        stored = await self._reads.jobs(tenant, wanted, below, limit)
        jobs = map(job_of, _newest(JOBS, stored, self._tail.recent(tenant, now), below))
        return list(islice((job for job in jobs if job is not None and wanted.takes(job)), limit))

    async def tracks(self, tenant: str, below: Cursor | None, limit: int, now: datetime) -> list[Track]:
        """Some tracks, the newest first."""
        stored = await self._reads.tracks(tenant, below, limit)
        tracks = map(track_of, _newest(TRACKS, stored, self._tail.recent(tenant, now), below))
        return list(islice((track for track in tracks if track is not None and track.modality in _MUSIC), limit))


def _newest(
    table: Table, stored: Mapping[str, State], tailed: Iterable[tuple[Row, State]], below: Cursor | None
) -> list[State]:
    """What both sources know of each row of a table, the newest first."""
    states = dict(stored)
    for job, state in tailed:
        key = job[table.keys[0]]
        states[key] = joined(stored[key], state) if key in stored else state
    placed = []
    for key, state in states.items():
        row = state.get((table, key))
        at = None if row is None else (row["requested_at"] or row["first_at"], key)
        if at is not None and (below is None or at < below):
            placed.append((at, state))
    return [state for _, state in sorted(placed, key=lambda each: each[0], reverse=True)]


def _own(known: Known, tenant: str) -> State:
    """The rows that are known of a job, where it is the tenant's."""
    row = row_of(known.state, JOBS)
    return known.state if row is not None and row["tenant"] == tenant else {}
