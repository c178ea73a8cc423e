"""Runs rows and storms, one after the other on one fleet: inject, restore, drain, wait until idle, check."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from chaos.checks.answers import never_accepted
from chaos.checks.checker import Violation, check
from chaos.cluster.fleet import Fleet
from chaos.cluster.scale import FULL
from chaos.evidence.gather import Gatherer, evidence_of_load
from chaos.evidence.model import ClientAnswer, DeadLetter, Evidence, Tables, Window
from chaos.evidence.resolution_metrics import ResolutionMetrics
from chaos.load.clients import ACCEPTED_WITHIN_S, Load
from chaos.load.faults import CRASH_KINDS, disturbance_windows, request_fault_rules
from chaos.load.storm import SUCCEED, Storm, plan, run_storm, share_of_plain
from chaos.rows.base import Row
from contracts.failures import FailureKind
from contracts.topics import SERVICES

FAULTY: Final = 0.15
"""The share of a storm's requests with a request fault."""
DRAIN_S: Final = 270.0
"""In seconds: longer than a job may take, including its cancellation."""
SAY_EVERY_S: Final = 5.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """The result of a row or a storm."""

    name: str
    title: str
    expects: str
    replay: str
    """The arguments that repeat it."""
    seen: list[str] = field(default_factory=list)
    error: str | None = None
    """Why a row failed, besides violations."""
    violations: list[Violation] = field(default_factory=list)
    jobs: int = 0
    took_s: float = 0.0
    injections: list[str] = field(default_factory=list)
    recoveries: list[tuple[float, str]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there was no error and no violation."""
        return self.error is None and not self.violations


class Run:
    """The answers, faults and results of all rows and storms on one fleet."""

    def __init__(self, fleet: Fleet, audit: Path, say: Say) -> None:
        self.results: list[Result] = []
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.answers: list[ClientAnswer] = []
        self.windows: list[Window] = []
        self.resolutions = ResolutionMetrics(fleet)
        self.evidence = Evidence((), (), (), Tables())
        """All evidence so far, without intended dead letters."""
        self._fleet, self._audit, self._say = fleet, audit, say
        self._gatherer = Gatherer(fleet, audit)
        fleet.before_deletion = self._gatherer.read_topics
        self._expected_dead_letters: list[DeadLetter] = []
        self._gave_up: set[str] = set()
        """The tokens of clients that gave up because the outage was longer than they try."""

    async def row(self, row: Row, seed: int) -> Result:
        """Run one row of the fault matrix, and check its jobs."""
        replay = f"--rows {row.number} --rounds 0 --seed {seed}{' --full' if self._fleet.scale == FULL else ''}"
        result = Result(f"row {row.number}", row.title, row.expects, replay)
        buried, began = len(self._gatherer.dead_letters), time.time()
        tally = Counter(self._fleet.tally)
        async with self._load(f"row{row.number}", random.Random(f"{seed} load")) as load:
            await self._reset_providers()
            try:
                async with asyncio.timeout(self._fleet.scale.row_within_s + row.longer_s):
                    result.seen = await row.run(self._fleet, load, random.Random(f"{seed} row {row.number}"))
            except Exception as error:  # noqa: BLE001 - any exception is the row's result; the next row runs
                result.error = f"{type(error).__name__}: {error}"
            await self._recover(load, result)
        self._count(self._fleet.tally - tally)
        give_up = row.without_kafka and self._fleet.scale.brokers_away_s > ACCEPTED_WITHIN_S
        kinds = row.explains | (frozenset(map(str, CRASH_KINDS)) if row.unsettles else frozenset())
        kinds |= {str(FailureKind.EXPIRED)} if give_up else set()
        ends = frozenset(map(str, SERVICES if row.unsettles else ()))
        refuses = FailureKind.NEVER_ACCEPTED in row.explains
        window = Window(result.name, began, time.time(), kinds, row.provider, refuses, ends)
        windows = [window, *disturbance_windows(self._fleet.disturbances.since(began))]
        await self._check_jobs(result, load, windows, buried, began, burying=row.dead_letters, clients_give_up=give_up)
        return result

    async def storm(self, seed: int, jobs: int, kills: int, rate: float) -> Result:
        """Run one storm from a seed, and check its jobs."""
        replay = f"--rows none --rounds 1 --seed {seed} --jobs {jobs} --kills {kills} --rate {rate:g}"
        result = Result(f"storm {seed}", f"{jobs} jobs, {kills} kills", "no violation", replay)
        buried, began = len(self._gatherer.dead_letters), time.time()
        rng = random.Random(seed)
        storm = Storm(self._fleet, plan(rng, kills, jobs))
        result.injections = [str(injection) for injection in storm.injections]
        tally = Counter(self._fleet.tally)
        async with AsyncExitStack() as stack:
            load = await stack.enter_async_context(self._load(f"s{seed}", rng, FAULTY))
            await self._reset_providers()
            async with self._fleet.supervised():
                try:
                    await run_storm(storm, load, rate, jobs)
                except Exception as error:  # noqa: BLE001 - any exception is the storm's result; the next one runs
                    result.error = f"{type(error).__name__}: {error}"
                await self._recover(load, result)
        self.faults.update(storm.faults)
        self._count(self._fleet.tally - tally)
        self.kills += Counter(postgres=storm.kills["postgres"])
        result.recoveries = storm.recoveries
        kills = sum(storm.kills.values())
        result.seen = [f"{kills} kills, {len(storm.injections) - kills} faults beside them"]
        share = share_of_plain(load.requests)
        if share < SUCCEED:
            result.error = result.error or f"only {share:.1%} of the jobs that nothing was wrong with succeeded"
        windows = [*storm.windows, *disturbance_windows(self._fleet.disturbances.since(began))]
        await self._check_jobs(result, load, windows, buried, began)
        return result

    async def check_all(self) -> list[Violation]:
        """The violations of the whole run that no single row or storm has."""
        await self._gather()
        known: set[tuple[str, str]] = {(v.kind, v.subject) for one in self.results for v in one.violations}
        known |= {("lost", token) for token in self._gave_up}
        return [v for v in check(self.evidence) if (v.kind, v.subject) not in known]

    @asynccontextmanager
    async def _load(self, name: str, rng: random.Random, faulty: float = 0.0) -> AsyncIterator[Load]:
        async with Load(self._fleet, name, rng, self._audit, faulty=faulty) as load:
            reporting = asyncio.create_task(self._report_progress(load))
            try:
                yield load
            finally:
                reporting.cancel()
                with suppress(asyncio.CancelledError):
                    await reporting

    async def _report_progress(self, load: Load) -> None:
        """Print the progress every few seconds."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            await self.resolutions.scrape()
            kills = sum(n for what, n in self._fleet.tally.items() if what.startswith("SIGKILL"))
            over = load.over
            waiting = len(load.requests) - over
            self._say(
                f"{load.name} {time.monotonic() - began:4.0f} s: {len(load.requests)} requests, {over} ended, "
                f"{waiting} open, {kills} SIGKILLs so far"
            )

    async def _reset_providers(self) -> None:
        """Remove all provider faults except the request faults."""
        await self._fleet.reset_providers()
        await self._fleet.faults(request_fault_rules())

    async def _recover(self, load: Load, result: Result) -> None:
        """Restore the system, and wait until it is idle."""
        began = time.monotonic()
        (await self._fleet.sandbox.put("/faults", json=request_fault_rules())).raise_for_status()
        try:
            await self._fleet.restore()
        except (AssertionError, TimeoutError) as error:
            result.error = result.error or f"it did not recover: {error}"
            return
        open_ = await load.drain(DRAIN_S)
        left = await self._gatherer.wait_until_idle()
        await load.verify()
        if open_ or left:
            words = ", ".join([*(one.token for one in open_[:5]), *left[:5]])
            result.error = result.error or f"not drained: {len(open_)} jobs and {len(left)} things are left ({words})"
        self._say(f"  {load.name}: drained, quiet and looked up {time.monotonic() - began:.0f} s after the last fault")

    async def _check_jobs(
        self,
        result: Result,
        load: Load,
        windows: list[Window],
        buried: int,
        began: float,
        *,
        burying: frozenset[str] = frozenset(),
        clients_give_up: bool = False,
    ) -> None:
        """Check the jobs of a load; dead letters of the services in `burying` were intended."""
        if load.errors:
            result.error = result.error or load.errors[0]
        self.answers += load.answers
        self.windows += windows
        ended = len(self._gatherer.unexpected_ends)
        await self._gather()
        # A record that a row spoiled is a dead letter again whenever it is read again, such as after a lost commit.
        new = [one for one in self._gatherer.dead_letters[buried:] if one not in self._expected_dead_letters]
        self._expected_dead_letters += [one for one in new if one.service in burying]
        new = [one for one in new if one.service not in burying]
        ours = evidence_of_load(self.evidence, load.name, load.answers)
        ends = self._gatherer.unexpected_ends[ended:]
        by_themselves = [one for one in self._fleet.process_ends if one.at >= began]
        evidence = replace(ours, windows=windows, dead_letters=new, unexpected_ends=ends, process_ends=by_themselves)
        result.violations = check(evidence, clients_give_up=clients_give_up)
        self._gave_up |= {token for token, _ in never_accepted(load.answers)} if clients_give_up else set()
        result.jobs = len(load.requests)
        self.results.append(result)

    async def _gather(self) -> None:
        evidence = await self._gatherer.read_all(self.answers, self.windows)
        letters = [one for one in evidence.dead_letters if one not in self._expected_dead_letters]
        self.evidence = replace(evidence, dead_letters=letters, process_ends=list(self._fleet.process_ends))

    def _count(self, signals: Counter[str]) -> None:
        for what, times in signals.items():
            name, _, target = what.partition(" ")
            if name == "SIGKILL":
                self.kills[target] += times
            else:
                self.faults[what] += times
