"""Finding things where the tail and the read model may each know half."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from contracts.generation import Provider
from contracts.ids import ATTEMPT_ID_PATTERN, JOB_ID_PATTERN
from gateway.queries.errors import NotFound, ReadModelUnavailable
from gateway.queries.log_order import merged_log
from gateway.queries.model import FINAL, AttemptOfJob, Job, LogLine, Track, newer, track_of
from gateway.queries.read_model import Cursor, JobFilter, ReadModel
from gateway.queries.tail import JobTail

_ID: Final = re.compile(JOB_ID_PATTERN)
_ATTEMPT_ID: Final = re.compile(ATTEMPT_ID_PATTERN)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was found; stale, if the database could not be asked for more."""

    value: T
    stale: bool = False


class Lookup:
    """Jobs, tracks and attempts as the tail and the read model together tell them.

    A question for one thing raises NotFound if there is none; any raises ReadModelUnavailable if that is not known.
    """

    def __init__(self, tail: JobTail, reads: ReadModel) -> None:
        self._tail = tail
        self._reads = reads

    async def job(self, job_id: str, tenant: str) -> Found[Job]:
        """One job."""
        if not _ID.match(job_id):
            raise NotFound("job", job_id)
        tailed = _own(self._tail.known(job_id).job, tenant)
        try:
            job = newer(await self._reads.job(job_id, tenant), tailed)
        except ReadModelUnavailable:
            if tailed is None:
                raise
            return Found(tailed, stale=True)
        if job is None:
            raise NotFound("job", job_id)
        return Found(job)

    async def stored(self, job_id: str, tenant: str) -> Job | None:
        """One job as the read model has it; None also where that does not answer within 2 s."""
        try:
            async with asyncio.timeout(1.5):  # Giving the connection back may take the rest.
                return await self._reads.job(job_id, tenant)
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
        job = _own(self._tail.job_of_track(track_id), tenant)
        tailed = None if job is None else track_of(job)
        try:
            track = _newer_track(await self._reads.track(track_id, tenant), tailed)
        except ReadModelUnavailable:
            if tailed is None:
                raise
            return Found(tailed, stale=True)
        if track is None:
            raise NotFound("track", track_id)
        return Found(track)

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
        merged = {job.job_id: job for job in await self._reads.jobs(tenant, wanted, below, limit)}
        for tailed in self._tail.recent(tenant, now):
            job = newer(merged.get(tailed.job_id), tailed)
            if job is not None:
                merged[tailed.job_id] = job
        taken = (job for job in merged.values() if wanted.takes(job))
        return _page(taken, lambda job: (job.requested_at, job.job_id), below, limit)

    async def tracks(self, tenant: str, below: Cursor | None, limit: int, now: datetime) -> list[Track]:
        """Some tracks, the newest first."""
        merged = {track.track_id: track for track in await self._reads.tracks(tenant, below, limit)}
        for job in self._tail.recent(tenant, now):
            track = _newer_track(merged.get(job.track_id), track_of(job))
            if track is not None:
                merged[job.track_id] = track
        return _page(merged.values(), lambda track: (track.created_at, track.track_id), below, limit)


def _page(things: Iterable[T], key: Callable[[T], tuple[datetime, str]], below: Cursor | None, limit: int) -> list[T]:
    left = (thing for thing in things if below is None or key(thing) < below)
    return sorted(left, key=key, reverse=True)[:limit]


def _newer_track(stored: Track | None, tailed: Track | None) -> Track | None:
    if stored is None or tailed is None:
        return stored or tailed
    return stored if stored.status in FINAL else tailed


def _own(job: Job | None, tenant: str) -> Job | None:
    return job if job is not None and job.tenant == tenant else None
