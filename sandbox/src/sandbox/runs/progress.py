"""The progress of every accepted request from the queue to its end."""

import asyncio
import bisect
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

from sandbox.http.responses import Provider
from sandbox.runs.bills import Bills, Ending
from sandbox.runs.job import Job, Outcome, not_started_in_time, stopped
from sandbox.runs.slots import Slots
from sandbox.settings import Settings

Announce = Callable[[Job, Literal["start", "completed"]], None]


class _Line:
    """A provider's queue: the waiting jobs in order, and the number that may run."""

    def __init__(self, cap: Callable[[], int | None]) -> None:
        self._tickets = itertools.count()
        self.waiting: list[int] = []
        self.slots = Slots(cap)

    def enter(self) -> int:
        ticket = next(self._tickets)
        self.waiting.append(ticket)
        return ticket

    def ahead_of(self, ticket: int) -> int:
        return bisect.bisect_left(self.waiting, ticket)

    def leave(self, ticket: int) -> None:
        del self.waiting[self.ahead_of(ticket)]


class Jobs:
    """All jobs of one process; each is one task that sleeps until its next step is due."""

    def __init__(self, settings: Settings, bills: Bills, tasks: asyncio.TaskGroup, announce: Announce) -> None:
        self._settings, self._bills, self._tasks, self._announce = settings, bills, tasks, announce
        self._jobs: dict[str, Job] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._lines: dict[Provider, _Line] = {
            "fal": _Line(lambda: settings.fal_concurrency),
            "replicate": _Line(lambda: None),
        }

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, bills: Bills, announce: Announce) -> AsyncIterator["Jobs"]:
        """Runs jobs for the length of the block; jobs that have not ended by then are stopped."""
        async with asyncio.TaskGroup() as tasks:
            jobs = cls(settings, bills, tasks, announce)
            yield jobs
            for life in jobs._lives.values():
                life.cancel()

    def start(self, job: Job) -> None:
        """Starts a job that has been recorded."""
        job.ticket = self._lines[job.provider].enter()
        self._jobs[job.id] = job
        self._lives[job.id] = self._tasks.create_task(self._live(job))
        loop = asyncio.get_running_loop()
        if job.start_within_s is not None:
            loop.call_later(job.start_within_s, self._start_deadline, job)
        if job.end_within_s is not None:
            loop.call_later(job.end_within_s, self.cancel, job)

    def get(self, provider: Provider, job_id: str) -> Job | None:
        """The provider's job with that id; None if there is none."""
        job = self._jobs.get(job_id)
        return job if job and job.provider == provider else None

    def of_any(self, job_id: str) -> Job | None:
        """The job with that id, of any provider; None if there is none."""
        return self._jobs.get(job_id)

    def newest_first(self, provider: Provider) -> list[Job]:
        """All jobs of a provider, newest first."""
        return [job for job in reversed(self._jobs.values()) if job.provider == provider]

    def queued(self, provider: Provider) -> int:
        """The number of jobs that wait for their start."""
        return len(self._lines[provider].waiting)

    def position(self, job: Job) -> int:
        """The number of jobs that wait before this one."""
        return self._lines[job.provider].ahead_of(job.ticket)

    def full(self, provider: Provider) -> bool:
        """Whether the account runs the maximum number of jobs."""
        return self._lines[provider].slots.full

    def recheck(self) -> None:
        """Has waiting jobs check the limits again after a change."""
        for line in self._lines.values():
            line.slots.recheck()

    def forget(self) -> None:
        """Stops and removes all jobs, so that a test begins with none."""
        for job in self._jobs.values():
            job.webhook = None
            self.cancel(job)
        self._jobs.clear()

    def step(self) -> None:
        """Ends the current wait of each job: a queued one starts, if the account may run it, and a running one ends."""
        for job in self._jobs.values():
            if job.due is not None:
                job.due.set()

    def cancel(self, job: Job) -> None:
        """Stops a job now, unless it has ended."""
        self.end(job, stopped(job, time.time()))

    def end(self, job: Job, outcome: Outcome) -> None:
        """Ends a job, once: records it, wakes its waiters and sends its webhook."""
        if job.outcome:
            return
        if job.started_at is None:
            self._lines[job.provider].leave(job.ticket)
        job.outcome, job.ended_at = outcome, time.time()
        event = {"aborted": "aborted", "canceled": "cancelled"}.get(outcome.status, "finished")
        self._bills.ending(
            Ending(job.ended_at, job.provider, job.endpoint.name, job.id, event, outcome.status, outcome.billed_usd)
        )
        life = self._lives.pop(job.id)
        if life is not asyncio.current_task():
            life.cancel()
        job.tell()
        self._announce(job, "completed")

    def _start_deadline(self, job: Job) -> None:
        if job.started_at is None:
            self.end(job, not_started_in_time())

    async def _live(self, job: Job) -> None:
        await _pass(job, job.queue_s)
        if job.ending.status == "aborted":
            self.end(job, job.ending)
            return
        async with self._lines[job.provider].slots.slot():
            self._lines[job.provider].leave(job.ticket)
            job.started_at = time.time()
            job.tell()
            self._announce(job, "start")
            cap = self._settings.replicate_run_cap_s
            if job.provider == "replicate" and (job.run_s is None or job.run_s > cap):
                await _pass(job, cap)
                self.end(job, Outcome("failed", error="Prediction interrupted: it ran for too long (code: PA)"))
                return
            await _pass(job, job.run_s)
            self.end(job, job.ending)


async def wait_for_move(job: Job, timeout_s: float) -> None:
    """Returns when the job starts or ends, or after that number of seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            await job.moved.wait()
    except TimeoutError:
        return


async def _pass(job: Job, seconds: float | None) -> None:
    job.due = asyncio.Event()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await job.due.wait()
    job.due = None
