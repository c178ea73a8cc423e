"""The reconciler searches for lost submits in batches: a real ledger, and a listing that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, cast

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from tests.builders import changed, queued_attempt
from tests.patience import patient

import adapter_kit
from adapter_kit.attempt.inputs import CalledBack, Checked, Input, Resolved, Searched, SubmitAnswered
from adapter_kit.attempt.model import Attempt
from adapter_kit.engine import ledger
from adapter_kit.engine.reconciler import Reconciler
from adapter_kit.log_events import AttemptEvent
from adapter_kit.port.outcomes import (
    Accepted,
    Broken,
    Failure,
    FindOutcome,
    Found,
    NoAnswer,
    NotFound,
    ProviderRef,
    Running,
)
from adapter_kit.port.provider import LostSubmission
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.ids import AttemptId, job_id_for

NOW = datetime.now(UTC)
UNRESOLVED = Failure(FailureKind.AMBIGUOUS_SUBMISSION, "the response was lost")


def attempt(name: str, **changes: Any) -> Attempt:
    queued = queued_attempt(job_id_for("default", name), NOW, arguments={"prompt": name}, submissions=1)
    return changed(queued, **{"state": "ambiguous"} | changes)


class Listing:
    """The `find` of a provider, with answers of the test's."""

    name = "fal"

    def __init__(self) -> None:
        self.walks: list[list[LostSubmission]] = []
        self.taken: frozenset[str] = frozenset()
        self.asked_at = NOW
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], asked_at: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        self.walks.append(list(lost))
        self.taken, self.asked_at = taken, asked_at
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return {one.attempt_id: NotFound(conclusive=True) for one in lost}


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=2) as opened:
        yield opened


@pytest.fixture
def listing() -> Listing:
    return Listing()


class Progress:
    """Progress of the callbacks' consumer: up to date, except for the jobs in `unread` and `stale`."""

    def __init__(self) -> None:
        self.unread: set[str] = set()
        self.stale: set[str] = set()
        self.asked: list[list[str]] = []

    async def heard_until(self, keys: Sequence[str]) -> dict[str, float | None]:
        self.asked.append(list(keys))
        now = monotonic()
        read = {key: now - 300 if key in self.stale else now for key in keys}
        return {key: None if key in self.unread else at for key, at in read.items()}


@pytest.fixture
def progress() -> Progress:
    return Progress()


@pytest.fixture
def reconciler(pool: Pool, listing: Listing, progress: Progress) -> Reconciler:
    return Reconciler(cast("Any", listing), pool, progress)


async def keep(pool: Pool, *attempts: Attempt) -> None:
    runtime = Runtime("fal-adapter", make_telemetry("fal-adapter", None))
    async with Outbox(pool, cast("Any", None), cast("Any", runtime)).transaction() as transaction:
        await ledger.create(transaction, [(one, None) for one in attempts])
        # A row gets these with its first change.
        changes = "UPDATE attempts SET provider_ref = $2, cancel_reason = $3 WHERE attempt_id = $1"
        for one in attempts:
            ref = one.ref.request_id if one.ref else None
            await transaction.connection.execute(changes, one.attempt_id, ref, one.state.cancel_reason)


async def test_searches_begun_during_a_walk_share_the_next_one(reconciler: Reconciler, listing: Listing) -> None:
    async with asyncio.timeout(patient(60)), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(reconciler.search(attempt("first"), NOW))
        await listing.begun.wait()
        others = [tasks.create_task(reconciler.search(attempt(str(n)), NOW + timedelta(seconds=n))) for n in range(50)]
        await asyncio.sleep(0)
        listing.may_end.set()
    assert [len(walk) for walk in listing.walks] == [1, 50]
    assert listing.asked_at == NOW + timedelta(seconds=49)
    assert {each.result() for each in (first, *others)} == {NotFound(conclusive=True)}


async def test_a_cancelled_walk_does_not_block_the_next_search(reconciler: Reconciler, listing: Listing) -> None:
    async with asyncio.timeout(patient(60)):
        leader = asyncio.create_task(reconciler.search(attempt("leader"), NOW))
        await listing.begun.wait()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        listing.may_end.set()
        assert await reconciler.search(attempt("next"), NOW) == NotFound(conclusive=True)


async def test_a_walk_that_raises_is_no_answer_to_the_searches_that_share_it(
    reconciler: Reconciler, listing: Listing
) -> None:
    async with asyncio.timeout(patient(60)):
        first = asyncio.create_task(reconciler.search(attempt("first"), NOW))
        await listing.begun.wait()
        both = [asyncio.create_task(reconciler.search(attempt(name), NOW)) for name in "ab"]
        await asyncio.sleep(0)
        listing.error = RuntimeError("a bug")
        listing.may_end.set()
        results = await asyncio.gather(first, *both, return_exceptions=True)
    assert [type(each) for each in results] == [RuntimeError, RuntimeError, NoAnswer]


async def test_runs_of_other_attempts_are_passed_as_taken(reconciler: Reconciler, listing: Listing, pool: Pool) -> None:
    await keep(pool, attempt("has one", state="running", ref=ProviderRef("theirs", {})), attempt("has none"))
    listing.may_end.set()
    await reconciler.search(attempt("lost"), NOW)
    assert listing.taken == {"theirs"}


@pytest.mark.parametrize(
    ("twin", "searched"),
    [
        ({}, False),
        ({"state": "submitting"}, False),
        ({"state": "running", "ref": ProviderRef("theirs", {})}, True),
        ({"arguments": {"prompt": "another"}}, True),
        ({"endpoint": "another/model"}, True),
        ({"endpoint": f"test/model:{'a' * 64}"}, False),
        ({"state": "failed", "next_action_at": None}, True),
        ({"cancel_reason": "deadline"}, True),
        ({"state": "submitting", "cancel_reason": "client"}, True),
    ],
)
async def test_a_late_search_takes_no_run_from_an_attempt_that_is_still_waited_for(
    reconciler: Reconciler, listing: Listing, pool: Pool, twin: dict[str, Any], searched: bool
) -> None:
    late = attempt("late", state="failed", follow_up="search")
    await keep(pool, late, attempt("twin", **({"arguments": late.arguments} | twin)))
    listing.may_end.set()
    result = await reconciler.search(late, NOW)
    assert isinstance(result, NotFound) is searched
    assert [[one.late for one in walk] for walk in listing.walks] == ([[True]] if searched else [])


async def test_a_late_search_takes_no_run_from_an_attempt_that_was_created_while_the_listing_was_read(
    reconciler: Reconciler, listing: Listing, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = attempt("late", state="failed", follow_up="search")
    other = attempt("other", state="failed", follow_up="search")
    await keep(pool, late, other)

    async def find(lost: Sequence[LostSubmission], *_: object) -> Mapping[AttemptId, FindOutcome]:
        await keep(pool, attempt("twin", state="submitting", arguments=late.arguments))
        return {one.attempt_id: Found(ProviderRef("of the twin", {})) for one in lost}

    monkeypatch.setattr(listing, "find", find)
    assert isinstance(await reconciler.search(late, NOW), NoAnswer)
    await pool.execute("DELETE FROM attempts WHERE state = 'submitting'")
    assert isinstance(await reconciler.search(other, NOW), Found)


class Shown:
    """The `find` of a provider that lists the runs in `runs`, each of any of the submits to `test/model`."""

    name = "fal"

    def __init__(self, *, conclusive: bool) -> None:
        self.runs: list[str] = []
        self.conclusive = conclusive

    async def find(
        self, lost: Sequence[LostSubmission], taken: frozenset[str], _: datetime
    ) -> Mapping[AttemptId, FindOutcome]:
        free = [run for run in self.runs if run not in taken]
        here = [one for one in lost if one.endpoint == "test/model"]
        found = {
            one.attempt_id: Found(ProviderRef(run, {}), self.conclusive) for one, run in zip(here, free, strict=False)
        }
        return {one.attempt_id: NotFound(self.conclusive) for one in lost} | found


class Ledger:
    """The real ledger, with searches whose outcomes it records."""

    def __init__(self, pool: Pool, reconciler: Reconciler) -> None:
        self._outbox = Outbox(pool, cast("Any", None), cast("Any", Runtime("fal", make_telemetry("fal", None))))
        self.reconciler = reconciler

    async def apply(self, one: Attempt, input_: Input) -> Attempt:
        async with self._outbox.transaction() as transaction:
            return (await ledger.apply(transaction, [(one.attempt_id, input_)]))[0][one.attempt_id].attempt

    async def search(self, one: Attempt, at: datetime) -> Attempt:
        return await self.apply(one, Searched(await self.reconciler.search(one, at), at))

    async def search_until(self, one: Attempt, seconds: float) -> Attempt:
        """Search every 15 s: the listing counts as down for a longer time without a search."""
        for at in range(0, int(seconds), 15):
            one = await self.search(one, after(at))
        return await self.search(one, after(seconds))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lost_at(name: str, seconds: float, **changes: Any) -> Attempt:
    """A submit that is lost at once, with a grace of 240 s; all have the same input."""
    own = {"submit_started_at": after(seconds), "resolve_by": after(seconds + 240), "deadline_at": after(3_000)}
    return attempt(name, **{"arguments": {"prompt": "the same"}} | own | changes)


@pytest.fixture(params=[False, True], ids=["fal", "replicate"])
def shown(request: pytest.FixtureRequest) -> Shown:
    return Shown(conclusive=request.param)


@pytest.fixture
def kept(pool: Pool, shown: Shown, progress: Progress) -> Ledger:
    return Ledger(pool, Reconciler(cast("Any", shown), pool, progress))


def known(one: Attempt) -> tuple[str, FailureKind | str | None]:
    return one.state.name, one.failure.kind if one.failure else one.ref.request_id if one.ref else None


async def test_absence_is_no_proof_while_the_twin_that_took_the_run_may_have_one_of_its_own(
    pool: Pool, kept: Ledger, shown: Shown
) -> None:
    first, second = lost_at("first", -100), lost_at("second", 0)
    await keep(pool, first, second)
    shown.runs = ["of the first"]
    assert known(await kept.search(second, after(5))) == ("running", "of the first")
    with capture_logs() as logs:
        first = await kept.search_until(first, 46 if shown.conclusive else 239)
    assert known(first) == ("ambiguous", None)
    assert all("the same input took a run" in line["reason"] for line in logs)
    assert logs
    shown.runs.append("of the second")
    assert known(await kept.search(first, after(241))) == ("running", "of the second")


async def test_a_twin_that_has_ended_holds_up_as_well_though_a_replica_of_an_earlier_release_wrote_its_row(
    pool: Pool, kept: Ledger, shown: Shown
) -> None:
    first, second = lost_at("first", -100), lost_at("second", 0)
    await keep(pool, first, second)
    shown.runs = ["of the first"]
    second = await kept.search(second, after(5))
    await pool.execute("UPDATE attempts SET body = body - 'own_listed_by'")
    assert second.ref is not None
    broken = Broken(Failure(FailureKind.MODEL_ERROR, "out of memory"), may_have_cost=True)
    assert (await kept.apply(second, Checked(broken, second.ref, after(6)))).final
    assert known(await kept.search_until(first, 46 if shown.conclusive else 239)) == ("ambiguous", None)


async def test_absence_is_proof_once_the_run_of_the_twin_would_be_listed(
    pool: Pool, kept: Ledger, shown: Shown
) -> None:
    first, second = lost_at("first", -100), lost_at("second", 0)
    await keep(pool, first, second)
    shown.runs = ["of the first"]
    await kept.search(second, after(5))
    first = await kept.search_until(first, 47.5 if shown.conclusive else 240)
    assert known(first) == ("failed", FailureKind.NEVER_ACCEPTED)


async def test_nor_is_it_proof_after_the_end_of_the_job_or_of_the_twin(pool: Pool, kept: Ledger, shown: Shown) -> None:
    first = lost_at("first", -100, state="failed", follow_up="search")
    second = lost_at("second", 0, state="failed", follow_up="search")
    await keep(pool, first, second)
    shown.runs = ["of the first"]
    assert known(await kept.search(second, after(5)))[0] == "failed"
    due = 47.5 if shown.conclusive else 240
    assert known(await kept.search_until(first, due - 1)) == ("failed", None)
    assert known(await kept.search_until(first, due)) == ("failed", FailureKind.NEVER_ACCEPTED)


@pytest.mark.parametrize("state", ["submitting", "ambiguous"])
async def test_a_submit_that_is_to_be_cancelled_leaves_the_run_to_a_twin_that_is_waited_for(
    pool: Pool, kept: Ledger, shown: Shown, state: str
) -> None:
    cancelled, waits = lost_at("cancelled", -100, cancel_reason="client"), lost_at("waits", 0, state=state)
    await keep(pool, cancelled, waits)
    shown.runs = ["of the one that waits"]
    assert known(await kept.search(cancelled, after(5))) == ("ambiguous", None)
    if state == "submitting":
        accepted = SubmitAnswered(1, Accepted(ProviderRef("of the one that waits", {})))
        assert known(await kept.apply(waits, accepted)) == ("running", "of the one that waits")
    else:
        assert known(await kept.search(waits, after(6))) == ("running", "of the one that waits")


async def test_a_submit_that_is_to_be_cancelled_is_proven_absent_although_a_twin_is_waited_for(
    pool: Pool, kept: Ledger, shown: Shown
) -> None:
    cancelled, waits = lost_at("cancelled", -100, cancel_reason="client"), lost_at("waits", 0)
    await keep(pool, cancelled, waits)
    proven = await kept.search_until(cancelled, 5 if shown.conclusive else 140)
    assert proven.failure is not None
    assert proven.failure.kind is FailureKind.NEVER_ACCEPTED


@pytest.mark.parametrize("ended", [False, True], ids=["ambiguous", "ended"])
async def test_nor_is_it_proof_if_an_operator_named_the_run_for_the_twin(
    pool: Pool, kept: Ledger, shown: Shown, ended: bool
) -> None:
    over = {"state": "failed", "follow_up": "search", "failure": UNRESOLVED} if ended else {}
    first, second = lost_at("first", -100), lost_at("second", 0, **over)
    await keep(pool, first, second)
    named = ProviderRef("of the first", {})
    await kept.apply(second, Resolved(named, after(3_000)))
    second = await kept.apply(second, Checked(Running(), named, after(5)))
    assert second.ref == named
    assert known(await kept.search_until(first, 239))[0] == "ambiguous"
    shown.runs = ["of the second"]
    assert known(await kept.search(first, after(241))) == ("running", "of the second")


@pytest.mark.parametrize(
    "bound",
    [
        SubmitAnswered(1, Accepted(ProviderRef("its own", {}))),
        CalledBack(ProviderRef("its own", {})),
        Searched(Found(ProviderRef("its own", {})), NOW),
    ],
    ids=["answered", "called back", "another input"],
)
async def test_a_twin_whose_run_is_its_own_and_another_input_hold_nothing_up(
    pool: Pool, kept: Ledger, shown: Shown, bound: Input
) -> None:
    other = {"arguments": {"prompt": "another"}} if isinstance(bound, Searched) else {}
    first, second = lost_at("first", -300), lost_at("second", 0, **other)
    await keep(pool, first, second)
    await kept.apply(second, bound)
    assert known(await kept.search(first, after(1))) == ("failed", FailureKind.NEVER_ACCEPTED)


async def test_a_run_that_the_same_search_gives_to_a_twin_proves_nothing_either(
    pool: Pool, kept: Ledger, shown: Shown
) -> None:
    first, second = lost_at("first", -300), lost_at("second", -299)
    alone, other = lost_at("alone", -299, endpoint="other/one"), lost_at("other", -299, endpoint="other/one")
    shown.runs = ["of one"]
    # The search of the one that comes first is a pass of its own; the others share the next.
    found = await asyncio.gather(*(kept.reconciler.search(one, NOW) for one in (alone, first, second, other)))
    assert [type(outcome).__name__ for outcome in found] == ["NotFound", "Found", "NoAnswer", "NotFound"]


async def test_a_search_that_proves_nothing_is_logged_with_its_reason(
    reconciler: Reconciler, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(lost: Sequence[LostSubmission], *_: object) -> Mapping[AttemptId, FindOutcome]:
        return {one.attempt_id: NoAnswer("the provider's clock is wrong") for one in lost}

    monkeypatch.setattr(listing, "find", find)
    with capture_logs() as logs:
        await reconciler.search(attempt("lost"), NOW)
    told = [(line["event"], line["provider"], line["count"], line["reason"]) for line in logs]
    assert told == [(AttemptEvent.SEARCH_SETTLED_NOTHING, "fal", 1, "the provider's clock is wrong")]


async def test_an_attempt_that_was_never_submitted_is_not_searched_for(
    reconciler: Reconciler, listing: Listing
) -> None:
    assert isinstance(await reconciler.search(attempt("unsent", state="queued"), NOW), NoAnswer)
    assert listing.walks == []


async def test_absence_from_the_listing_proves_nothing_while_a_callback_may_be_unread(
    reconciler: Reconciler, listing: Listing, progress: Progress
) -> None:
    listing.may_end.set()
    unread, stale, read, uncalled = (
        attempt(name, expects_callback=name != "uncalled") for name in ("unread", "stale", "read", "uncalled")
    )
    progress.unread, progress.stale = {unread.job_id, uncalled.job_id}, {stale.job_id}
    outcomes = await asyncio.gather(*(reconciler.search(one, NOW) for one in (unread, stale, read, uncalled)))
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoAnswer", "NoAnswer", "NotFound", "NotFound"]
    assert all(uncalled.job_id not in keys for keys in progress.asked), "no callback is expected"


async def test_a_run_found_in_the_listing_needs_no_callback_progress(
    reconciler: Reconciler, listing: Listing, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(lost: Sequence[LostSubmission], *_: object) -> Mapping[AttemptId, FindOutcome]:
        return {one.attempt_id: Found(ProviderRef("run-1", {})) for one in lost}

    monkeypatch.setattr(listing, "find", find)
    one = attempt("shown", expects_callback=True)
    progress.unread = {one.job_id}
    assert isinstance(await reconciler.search(one, NOW), Found)
    assert progress.asked == []
