"""Rows 23 to 26: providers lose answers, throttle, are down, or never finish accepted runs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from time import monotonic
from typing import Any, Final

from adapter_kit.breaker.policy import THRESHOLD
from chaos.cluster.fleet import Fleet
from chaos.cluster.proxy import Proxy
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound, describe, resolved
from chaos.rows.base import RATE, Row
from chaos.rows.probes import (
    PROVIDERS,
    SIGKILLED,
    BillLog,
    MetricDeltas,
    count,
    ended,
    fetch,
    finished_job,
    kinds,
    now,
    succeeded_at_first,
    wait_for,
)
from contracts.failures import FailureKind
from contracts.messages.attempts import AttemptFailed, AttemptSubmitting

BOTH: Final = (("fal", "replicate"), ("replicate", "fal"))
LOST: Final = ("accept-drop", "accept-hang", "accept-502", "accept-garbled", "accept-slowly")


async def _lost_answers(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    counts = await MetricDeltas.of(fleet, "fal-adapter", "replicate-adapter")
    async with load.running(RATE / 2):
        wanted = [(fault, order) for fault in LOST for order in BOTH]
        call = [load.submit("lost", faults=(fault,), providers=list(order)) for fault, order in wanted]
        requests = await asyncio.gather(*call)
        jobs = await asyncio.gather(*(finished_job(load, one) for one in requests))
    assert all(map(succeeded_at_first, jobs)), [(job["status"], kinds(job)) for job in jobs]
    # How many become ambiguous is a race with the callbacks, which a slow machine decides otherwise.
    found = await resolved(fleet, bill_log, began, bool)
    posts, taken = await all_bound(fleet, bill_log)
    ambiguous = int(await counts.since("segue_attempts_ambiguous_total"))
    resolutions = await counts.by("segue_ambiguous_resolved_total", "rung")
    early = sum(one.attempt_id.rpartition(".")[0] in {job["id"] for job in jobs} for one in found)
    assert ambiguous, "segue_attempts_ambiguous_total stands still"
    return [
        f"{len(jobs)} answers lost ({', '.join(LOST)}, at both): {early} ambiguous, the others called back before",
        f"counted {ambiguous} ambiguous, resolved by {resolutions}; {describe(found)}",
        f"{taken} runs of {posts} attempts POSTed, each bound, none twice",
    ]


RETRY_AFTER_S: Final = 3


async def _throttled(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log = BillLog(fleet)
    text = {"status": 429, "body": {"detail": f"Request was throttled. Your rate limit resets in ~{RETRY_AFTER_S}s."}}
    header = text | {"headers": {"Retry-After": str(RETRY_AFTER_S)}}
    rules: list[dict[str, Any]] = []
    for provider in PROVIDERS:
        for words, reply in (("by a text", text), ("by a header", header)):
            rules.append({"prompt_contains": words, "provider": provider, "times": 1, "action": {"refuse": reply}})
        rules.append({"prompt_contains": f"{provider} never", "provider": provider, "action": {"refuse": text}})
    await fleet.faults(rules)
    async with load.running(RATE / 3):
        once = [load.submit(words, providers=list(order)) for words in ("by a text", "by a header") for order in BOTH]
        throttled = await asyncio.gather(*once)
        jobs = await asyncio.gather(*(finished_job(load, one) for one in throttled))
        # Afterwards, as a job that is always throttled delays all others at that provider.
        refused = await asyncio.gather(*(load.submit(f"{one} never", providers=[one, other]) for one, other in BOTH))
        others = await asyncio.gather(*(finished_job(load, one) for one in refused))
    assert all(map(succeeded_at_first, jobs)), [(job["status"], kinds(job)) for job in jobs]
    waits = [_waited(bill_log.of_job(one.job_id)) for one in throttled]
    assert min(waits) >= RETRY_AFTER_S, f"asked again too early: {waits}"
    assert all(kinds(job) == ["rate_limited", None] for job in others), list(map(kinds, others))
    tries = [len(bill_log.of_job(one.job_id)) - 1 for one in refused]
    return [
        f"429 once, by header and by text alone: no attempt consumed, asked again after {min(waits):.1f} s and more",
        f"429 always: {tries} tries within the budget, then rate_limited, and the other provider made it",
    ]


def _waited(posts: list[Any]) -> float:
    refused, accepted = posts[0], posts[1]
    assert (refused["status"], accepted["accepted"], len(posts)) == (429, True, 2), posts
    return float(accepted["at"]) - float(refused["at"])


BREAKER_OPEN_S: Final = 1
OPENINGS: Final = 3
LONGEST_OPEN_S: Final = 150
"""In seconds. A breaker that opens for a second at first is open for 75 s at most, and half open for 60 s."""
IN_FLIGHT: Final = timedelta(seconds=1)
"""Submits that passed the breaker before it opened are sent within this time."""
BREAKER: Final = "SELECT * FROM fal_adapter.breakers WHERE scope = 'provider'"
SUBMITS: Final = """
SELECT attempt_id, type, occurred_at FROM log_sink.events
WHERE provider = 'fal' AND type LIKE 'segue.attempt.%' AND occurred_at >= $1 ORDER BY attempt_id, occurred_at, seq
"""
UNREACHABLE: Final = """
SELECT count(*) FROM log_sink.events
WHERE type = $1 AND provider = 'fal' AND error_kind = $2 AND occurred_at BETWEEN $3 AND $4
"""


async def _breaker(fleet: Fleet) -> dict[str, Any]:
    rows = await fetch(fleet, BREAKER)
    return {"state": "closed", "openings": 0, **(rows[0] if rows else {})}


async def _wait_for_breaker(
    fleet: Fleet, what: str, holds: Callable[[dict[str, Any]], bool], within_s: float
) -> dict[str, Any]:
    async def found() -> dict[str, Any] | None:
        breaker = await _breaker(fleet)
        return breaker if holds(breaker) else None

    breaker = await wait_for(f"fal's breaker {what}", found, within_s)
    assert breaker is not None
    return breaker


async def _hard_down(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log = BillLog(fleet)
    host, _, port = fleet.env["FAL_QUEUE_RUN_HOST"].rpartition(":")
    adapters = fleet.replicas("fal-adapter")
    try:
        async with Proxy(host, int(port)).running() as proxy, load.running(RATE):
            settings = {"FAL_QUEUE_RUN_HOST": f"{host}:{proxy.listens_at}", "SEGUE_BREAKER_OPEN_S": str(BREAKER_OPEN_S)}
            await asyncio.gather(*(one.term() for one in adapters))
            await asyncio.gather(*(one.start(**settings) for one in adapters))
            await asyncio.gather(*(one.ready() for one in adapters))
            seen = await _opened_probed_and_closed(fleet, proxy, settings)
            made = await load.submit("as if nothing had been", providers=["fal"])
            assert (await finished_job(load, made))["status"] == "succeeded"
    finally:
        # Restoring the fleet starts what is down, and does not change the settings of what runs.
        await asyncio.gather(*(one.term() for one in adapters))
        await asyncio.gather(*(one.start() for one in adapters))
    assert not await load.drain(60)
    posts, taken = await all_bound(fleet, bill_log)
    return [*seen, f"{len(load.requests)} jobs ended; {taken} runs of {posts} attempts POSTed, none twice"]


async def _opened_probed_and_closed(fleet: Fleet, proxy: Proxy, settings: dict[str, str]) -> list[str]:
    one, other = fleet.replicas("fal-adapter")
    began = await now(fleet)
    down = monotonic()
    proxy.refuse = True
    proxy.reset_all()
    breaker = await _wait_for_breaker(fleet, "opens", lambda breaker: breaker["state"] == "open", 40)
    opened_at = breaker["since"]
    await _wait_for_breaker(fleet, "has let probes through", lambda breaker: breaker["openings"] >= OPENINGS, 40)
    await asyncio.sleep(max(0.0, fleet.scale.provider_down_s - (monotonic() - down)))  # The outage itself is the fault.
    down_s = monotonic() - down
    openings = (await _breaker(fleet))["openings"]
    probes = await _one_at_a_time(fleet, opened_at + IN_FLIGHT)
    failed = await count(fleet, UNREACHABLE, AttemptFailed.TYPE, "unreachable", began, opened_at + IN_FLIGHT)
    # The holder of the next probe dies, while no other replica can take it over.
    await other.term()
    await one.kill()
    await one.start("after_intent", **settings)
    assert await ended(one, LONGEST_OPEN_S) == SIGKILLED
    assert (held := await _breaker(fleet))["state"] == "half_open", held
    proxy.refuse = False
    healed = monotonic()
    await asyncio.gather(one.start(**settings), other.start(**settings))
    await _wait_for_breaker(fleet, "closes again", lambda breaker: breaker["state"] == "closed", LONGEST_OPEN_S)
    return [
        (
            f"fal refused connections for {down_s:.0f} s: "
            f"open for both replicas within a second of {failed} failures (threshold {THRESHOLD})"
        ),
        f"{probes} probes while it was open, never two at a time; {openings} openings, each longer",
        f"the owner of a probe was killed with it: {monotonic() - healed:.0f} s later another replica had closed it",
    ]


async def _one_at_a_time(fleet: Fleet, since: datetime) -> int:
    """The number of submits since then. Raises AssertionError if two were in progress at the same time."""
    rows = await fetch(fleet, SUBMITS, since)
    spans = [
        (row["occurred_at"], after["occurred_at"])
        for row, after in pairwise(rows)
        if row["type"] == AttemptSubmitting.TYPE and row["attempt_id"] == after["attempt_id"]
    ]
    spans.sort()
    overlapping = [(first, second) for first, second in pairwise(spans) if second[0] < first[1]]
    assert not overlapping, f"two probes at a time: {overlapping}"
    return len(spans)


Kind = FailureKind
# Here a run has 6 s to start and 6 s to finish, and then Replicate itself ends it.
TIMED_OUT: Final = frozenset({Kind.START_TIMEOUT, Kind.RUN_TIMEOUT, Kind.CANCELLED_BY_PROVIDER})
# Connections are reset when the outage begins, with the answers to POSTs on them.
UNREACHED: Final = frozenset({Kind.UNREACHABLE, Kind.UNAVAILABLE, Kind.NEVER_ACCEPTED, Kind.AMBIGUOUS_SUBMISSION})
ENDLESS: Final[dict[str, tuple[dict[str, Any], frozenset[Kind | None]]]] = {
    "runs for ever": ({"never_finish": True}, TIMED_OUT),
    "queues for ever": ({"stuck_queue": True}, frozenset({Kind.START_TIMEOUT})),
    "has no result": ({"result_404": True, "webhook": ["never"]}, frozenset({Kind.OUTPUT_LOST, *TIMED_OUT})),
    # A result that is gone when it is asked for may have come with the callback.
    "tells its result once": ({"result_404": True}, frozenset({None, Kind.OUTPUT_LOST, *TIMED_OUT})),
    "ignores the cancel": ({"cancel": "ignored", "run_s": 9}, frozenset({None, *TIMED_OUT})),
}
PAUSED: Final = {"status": 200, "body": {"status": "PAUSED"}}
"""A status that no provider returns; a run with no other status is polled for ten minutes after its deadline."""


async def _never_finish(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log = BillLog(fleet)
    await fleet.faults([{"prompt_contains": words, "action": action} for words, (action, _) in ENDLESS.items()])
    puzzle: dict[str, Any] = {"prompt_contains": "a puzzle", "on": "status", "times": 4, "action": {"refuse": PAUSED}}
    await fleet.faults([{"provider": provider, **puzzle} for provider in PROVIDERS])
    async with load.running(RATE / 3):
        wanted = [(words, provider) for words in ENDLESS for provider in PROVIDERS]
        call = [load.submit(words, providers=[one]) for words, one in wanted]
        short = [load.submit("runs for ever", providers=[one], deadline_s=4) for one in PROVIDERS]
        odd = [load.submit("a puzzle", providers=[one]) for one in PROVIDERS]
        requests, late, puzzling = await asyncio.gather(*(asyncio.gather(*each) for each in (call, short, odd)))
        jobs = await asyncio.gather(*(finished_job(load, one) for one in requests))
        expired = await asyncio.gather(*(finished_job(load, one) for one in late))
        puzzles = await asyncio.gather(*(finished_job(load, one) for one in puzzling))
    ends: Counter[str] = Counter()
    for (words, _), job in zip(wanted, jobs, strict=True):
        kind = job["attempts"][-1]["error_kind"]
        ends[f"{words}: {kind or job['status']}"] += 1
        assert kind in ENDLESS[words][1], f"{words} ended as {kind or job['status']}"
    assert {(job["status"], job["error"]["kind"]) for job in expired} == {("failed", "expired")}, expired
    assert all(map(succeeded_at_first, puzzles)), [(job["status"], kinds(job)) for job in puzzles]
    mine = {post["request_id"] for one in (*requests, *late, *puzzling) for post in bill_log.of_job(one.job_id)}

    async def stopped() -> bool:
        known = (await fleet.sandbox.get("/jobs")).json()
        return not any(job["ended_at"] is None for job in known if job["id"] in mine)

    await wait_for("nothing of it runs at a provider", stopped)
    return [
        f"ended as {dict(ends)}",
        f"{len(puzzles)} whose status was PAUSED four times, which no provider says: made by the same run",
        f"{len(late)} past their deadline: expired, stopped at the provider; none of {len(mine)} runs is left there",
    ]


ROWS = {
    row.number: row
    for row in (
        Row(23, "Answers to POSTs lost", "ambiguous, resolved; 1 POST", _lost_answers),
        Row(
            24,
            "429 with Retry-After, 429 with a text",
            "no attempt consumed; falls back past the budget",
            _throttled,
            explains=frozenset({"rate_limited"}),
        ),
        Row(
            25,
            "Provider hard down, then half open",
            "open for all replicas; one probe at a time; its lease ends",
            _hard_down,
            # The state of runs accepted before the outage is unknown as well, until their deadline.
            explains=frozenset(map(str, {*UNREACHED, Kind.START_TIMEOUT, Kind.RUN_TIMEOUT})),
            provider="fal",
        ),
        Row(
            26,
            "Runs that never finish, results gone, unknown states",
            "deadline, cancel, terminal",
            _never_finish,
            explains=frozenset(map(str, TIMED_OUT | {Kind.OUTPUT_LOST})),
        ),
    )
}
