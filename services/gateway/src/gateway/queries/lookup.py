"""Looks up jobs, tracks and attempts in the tail and the read model together, each of which may have a part."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from gateway.queries.projection import Known, failed_without_its_job, is_revived, state_at, unsure_job
from gateway.queries.read_model_sql import Cursor, JobFilter, ReadModel
from gateway.queries.single_flight import SingleFlight
from gateway.queries.tail import JobTail
from read_model.merge import State, joined, row_of
from read_model.tables import JOBS, TRACKS, Row, Table

_ID: Final = re.compile(JOB_ID_PATTERN)
_ATTEMPT_ID: Final = re.compile(ATTEMPT_ID_PATTERN)
_MUSIC: Final = frozenset({None, "music"})
"""The modality is None until the request has arrived."""
_EXISTS_LIMIT_S: Final = 1.5
"""Returning the connection to the pool may take another 0.5 s."""
CATCH_UP_LIMIT_S: Final = 1.0
"""Seconds that a request waits for the tail to reach the end of its topics."""
SPARE: Final = 20
"""Rows that are read beyond the limit of a page, in the place of those that have left the list meanwhile."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A result; `stale` if it is from the tail alone because the database is unavailable."""

    value: T
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list, newest first.

    `after` is the cursor of the next page, None on the last. A page with a cursor may have fewer items than were asked
    for, even none, if many stored rows have left the list meanwhile.
    """

    items: Sequence[T]
    after: Cursor | None


class Lookup:
    """Jobs, tracks and attempts, merged from the tail and the read model.

    A lookup of one resource raises NotFound if there is none. All methods raise ReadModelUnavailable if the database is
    unavailable, except where the tail has the resource or the method says otherwise. A job or track that is in neither
    source is looked up again once the tail has reached the end of its topics, since another replica may have accepted
    it a moment ago; that raises TailBehind if it takes longer than a second.
    """

    def __init__(
        self, tail: JobTail, reads: ReadModel, catch_up: Callable[[], Awaitable[None]], now: Callable[[], datetime]
    ) -> None:
        """`catch_up` waits until the tail has read all records that its topics have at the time of the call;
        `now` returns the time by the database's clock.
        """
        self._tail = tail
        self._reads = reads
        self._now = now
        self._caught_up = SingleFlight(catch_up, within_s=CATCH_UP_LIMIT_S, at_most_old_s=0)

    async def job(self, job_id: str, tenant: str) -> Found[Job]:
        """One job, with its attempts and files."""
        if not _ID.match(job_id):
            raise NotFound("job", job_id)
        tailed = _own(self._tail.known(job_id), tenant)
        try:
            job = job_of(state_at(joined(await self._reads.job(job_id, tenant), tailed), self._now()))
        except ReadModelUnavailable:
            if (tailed_job := job_of(state_at(tailed, self._now()))) is None:
                raise
            return Found(tailed_job, stale=True)
        if job is None:
            await self._catch_up("job", job_id)
            job = job_of(state_at(_own(self._tail.known(job_id), tenant), self._now()))
        if job is None:
            raise NotFound("job", job_id)
        return Found(job)

    async def exists(self, job_id: str, tenant: str) -> bool:
        """Whether the read model has the job; False if the database does not say so within 2 s."""
        try:
            return await self._reads.exists(job_id, tenant, _EXISTS_LIMIT_S)
        except ReadModelUnavailable:
            return False

    async def existing(self, job_id: str, tenant: str) -> Job | None:
        """A job that the read model has; None if it was deleted just now."""
        return job_of(await self._reads.job(job_id, tenant))

    async def log(self, job_id: str, tenant: str) -> tuple[Job, list[LogLine]]:
        """A job and the lines of its log in causal order; those of the tail alone if the database is unavailable."""
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
            state = joined(await self._reads.track(track_id, tenant), tailed)
            if (job_id := failed_without_its_job(state)) is not None:
                state = joined(await self._reads.job(job_id, tenant), state)
            track = track_of(state_at(state, self._now()))
        except ReadModelUnavailable:
            if (tailed_track := track_of(state_at(tailed, self._now()))) is None:
                raise
            return Found(tailed_track, stale=True)
        if track is None:
            await self._catch_up("track", track_id)
            track = track_of(state_at(_own(self._tail.of_track(track_id), tenant), self._now()))
        if track is None:
            raise NotFound("track", track_id)
        return Found(track)

    async def _catch_up(self, kind: str, identifier: str) -> None:
        try:
            await self._caught_up.get()
        except (KafkaError, OSError, TimeoutError) as error:
            raise TailBehind(kind, identifier) from error

    async def attempt(self, attempt_id: str, tenant: str) -> AttemptOfJob:
        """One attempt, from the read model."""
        if not _ATTEMPT_ID.match(attempt_id):
            raise NotFound("attempt", attempt_id)
        found = await self._reads.attempt(attempt_id, tenant)
        if found is None:
            raise NotFound("attempt", attempt_id)
        return found

    async def attempts(
        self, tenant: str, provider: Provider | None, below: Cursor | None, limit: int, *, ambiguous: bool
    ) -> list[AttemptOfJob]:
        """Up to `limit` attempts after the cursor `below`, newest first, from the read model."""
        return await self._reads.attempts(tenant, provider, below, limit, ambiguous=ambiguous)

    async def other_of_run(self, attempt: AttemptOfJob, provider_ref: str) -> str | None:
        """The id of another attempt, of any tenant, that has this run at the provider; None if there is none."""
        return await self._reads.other_of_run(attempt.attempt.provider, provider_ref, attempt.attempt_id)

    async def runs(self, provider: Provider, provider_ref: str, attempt_id: str) -> dict[str, str | None]:
        """The known runs, by attempt id, of this attempt and of all attempts that have this run.

        Empty if the database is unavailable.
        """
        try:
            return await self._reads.runs(provider, provider_ref, attempt_id)
        except ReadModelUnavailable:
            return {}

    async def jobs(self, tenant: str, wanted: JobFilter, below: Cursor | None, limit: int, now: datetime) -> Page[Job]:
        """A page of up to `limit` jobs after the cursor `below`."""

        def meets(state: State) -> Job | None:
            job = job_of(state_at(state, now))
            return job if job is not None and wanted.matches(job) else None

        async def page(most: int) -> Page[Job]:
            stored = _Stored(await self._reads.jobs(tenant, wanted, below, most), most)
            return await self._listed(JOBS, stored, tenant, now, below, limit, meets)

        return await _full(page, limit)

    async def tracks(self, tenant: str, below: Cursor | None, limit: int, now: datetime) -> Page[Track]:
        """A page of up to `limit` music tracks after the cursor `below`."""

        def meets(state: State) -> Track | None:
            track = track_of(state_at(state, now))
            return track if track is not None and track.modality in _MUSIC else None

        async def page(most: int) -> Page[Track]:
            stored = _Stored(await self._reads.tracks(tenant, below, most), most)
            return await self._listed(TRACKS, stored, tenant, now, below, limit, meets)

        return await _full(page, limit)

    async def _listed(
        self,
        table: Table,
        stored: _Stored,
        tenant: str,
        now: datetime,
        below: Cursor | None,
        limit: int,
        meets: Callable[[State], T | None],
    ) -> Page[T]:
        """The page of `_page`, after a lookup of those of its jobs that may be stored elsewhere, mostly of none.

        If rows leave the page for their place further down, others follow that may have to be looked up, too.
        """
        tailed = list(self._tail.recent(tenant, now))
        while True:
            page, unsure = _page(table, stored, tailed, below, limit, meets)
            found = await self._reads.with_tracks(unsure, tenant) if unsure else {}
            if not found:
                return page
            stored = replace(stored, looked_up={**stored.looked_up, **{job_id: {} for job_id in unsure}, **found})


async def _full(page: Callable[[int], Awaitable[Page[T]]], limit: int) -> Page[T]:
    """The page that is made of up to `limit` stored rows, or of more if they do not fill it and there are more."""
    found = await page(limit)
    return found if len(found.items) == limit or found.after is None else await page(limit + SPARE)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The first rows of a list that meet its conditions by the database's knowledge, `most` at most."""

    states: Mapping[str, State]
    most: int
    looked_up: Mapping[str, State] = field(default_factory=dict)
    """The rows of other jobs, and of their tracks, by job id; empty for a job that is not stored."""

    def state(self, key: str, job_id: str) -> State:
        """The rows of a job that the tail has, by the key of the list and its own; empty if none are known."""
        return joined(self.states.get(key, {}), self.looked_up.get(job_id, {}))

    def floor(self, table: Table) -> Cursor | None:
        """Where the last of them stands in the list; None if there are no more."""
        if len(self.states) < self.most:
            return None
        return min(_place(table, key, state) for key, state in self.states.items())


def _page(
    table: Table,
    stored: _Stored,
    tailed: Iterable[tuple[Row, State]],
    below: Cursor | None,
    limit: int,
    meets: Callable[[State], T | None],
) -> tuple[Page[T], set[str]]:
    """The page of `table` below the cursor, merged from both sources; `meets` is None for a state to leave out.

    Also the ids of the jobs in it that have to be looked up.

    If there may be more stored rows, the page ends where the last of `stored` stands: a row that the tail places
    further down may have unread stored ones before it, and is on the next page. A row of the tail alone is left out
    until the tail has its request: it has the place and the model of its request, and may be a stored one further down.
    One that a repeat of its request revives is left to the read model, since it keeps the place of the first request.
    """
    floor = stored.floor(table)
    states = dict(stored.states)
    for job, state in tailed:
        key = job[table.keys[0]]
        known = stored.state(key, job["job_id"])
        if not known and (job["requested_at"] is None or is_revived(state)):
            continue
        states[key] = joined(known, state) if known else state
    placed: list[tuple[Cursor, State]] = []
    for key, state in states.items():
        at = _place(table, key, state) if (table, key) in state else None
        if at is not None and (below is None or at < below) and (floor is None or at >= floor):
            placed.append((at, state))
    placed.sort(key=lambda each: each[0], reverse=True)
    # The tail may have thousands of jobs: only those of the page are built, and one more, which shows if it is full.
    met = ((at, state, item) for at, state in placed if (item := meets(state)) is not None)
    found = list(islice(met, limit + 1))
    unsure = {job_id for at, state, _ in found if (job_id := unsure_job(state, is_stored=at[1] in stored.states))}
    page = Page([item for _, _, item in found[:limit]], found[limit - 1][0] if len(found) > limit else floor)
    return page, unsure - stored.looked_up.keys()


def _place(table: Table, key: str, state: State) -> Cursor:
    """Where a row stands in the lists, which are in descending order of it."""
    row = state[table, key]
    return row["requested_at"] or row["first_at"], key


def _own(known: Known, tenant: str) -> State:
    """The rows of a job in the tail; empty if it belongs to another tenant."""
    row = row_of(known.state, JOBS)
    return known.state if row is not None and row["tenant"] == tenant else {}
