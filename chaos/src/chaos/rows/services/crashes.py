"""Rows 1 to 7: processes are killed at critical points, under load."""

from __future__ import annotations

import asyncio
import random
import time

from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.ambiguous import all_bound, describe, resolved
from chaos.rows.base import GAPS, RATE, TWICE, Row
from chaos.rows.kafka.brokers import POLLED
from chaos.rows.probes import BillLog, MetricDeltas, count, crashed, duplicates, ends, fetch, now, wait_for
from contracts.topics import ADAPTERS, ATTEMPTS, COMMANDS, JOBS, TOPICS

ORDERED = "SELECT count(*) FROM orchestrator.attempts WHERE attempt_id = ANY($1)"
OUTBOXES = """
SELECT (SELECT count(*) FROM orchestrator.outbox) + (SELECT count(*) FROM fal_adapter.outbox)
    + (SELECT count(*) FROM replicate_adapter.outbox)
"""


async def _gateway(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    gateway = fleet.replica("gateway-1")
    kills = 3
    async with load.running(RATE):
        for _ in range(kills):
            burst = [asyncio.create_task(load.submit("amid a kill")) for _ in range(6)]
            # A random time, so that the kill hits any moment of these POSTs.
            await asyncio.sleep(rng.uniform(0, 0.05))
            await gateway.kill()
            await gateway.start()
            await gateway.ready()
            await asyncio.gather(*burst)
        await crashed(gateway, f"before_202:{rng.randint(1, 3)}")
        await gateway.ready()
    await load.drain(40)
    tokens = {one.token: one.job_id for one in load.requests if one.job_id is not None}
    unheard = {one.token for one in load.answers if one.call == "post" and one.status is None}
    rows = await fetch(
        fleet,
        "SELECT metadata ->> 'chaos' AS token, job_id FROM log_sink.jobs WHERE metadata ->> 'chaos' = ANY($1)",
        list(tokens),
    )
    assert sorted((row["token"], row["job_id"]) for row in rows) == sorted(tokens.items())
    assert unheard, "every POST was answered"
    return [
        f"{kills + 1} kills, one of them after Kafka's answer, before the 202; {len(unheard)} POSTs unanswered",
        f"{len(tokens)} keys, {len(rows)} jobs, each key with the job that its 202 named",
    ]


async def _orchestrator(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    before = await ends(fleet, *COMMANDS.values(), JOBS)
    one, other = fleet.replicas("orchestrator")

    async def twice() -> None:
        await crashed(one, f"before_handler_tx:{rng.randint(1, 3)}")
        await crashed(one, f"after_publish:{rng.randint(1, 3)}")

    async with load.running(RATE):
        await asyncio.gather(twice(), crashed(other, f"after_handler_tx:{rng.randint(1, 3)}"))
    assert not await load.drain(40)

    async def taken() -> bool:
        missing = """
        SELECT count(*) FROM orchestrator.attempts o
        WHERE NOT EXISTS (SELECT 1 FROM fal_adapter.attempts a WHERE a.attempt_id = o.attempt_id)
        AND NOT EXISTS (SELECT 1 FROM replicate_adapter.attempts a WHERE a.attempt_id = o.attempt_id)
        """
        return not await count(fleet, missing)

    await wait_for("every attempt that was ordered is in a ledger", taken)
    assert not await count(fleet, GAPS), "the attempts of a job are not counted 1, 2, 3"
    assert not await count(fleet, TWICE, began)
    again = await duplicates(fleet, before)
    return [
        "3 kills: before the transaction, after it, and between publish and delete",
        f"{len(load.requests)} jobs, {bill_log.once()} attempts POSTed, none accepted twice",
        f"{again} records twice in commands and jobs, none twice in the tables; no gap in any job's attempts",
    ]


async def _after_intent(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    doomed = [fleet.replica("fal-adapter-1"), fleet.replica("replicate-adapter-1")]
    async with load.running(RATE):
        await asyncio.gather(*(crashed(one, f"after_intent:{rng.randint(1, 3)}") for one in doomed))
    found = await resolved(fleet, bill_log, began, lambda all_: sum(one.never_sent for one in all_) >= len(doomed))
    unsent = [one for one in found if one.never_sent]
    assert {one.kind for one in unsent if one.state != "cancelled"} == {"never_accepted"}, unsent
    assert all(one.kind is None or one.never_sent for one in found if one.ref is None), found
    parts = [one.attempt_id.rpartition(".") for one in unsent]
    following = [f"{job_id}.{int(n) + 1}" for job_id, _, n in parts]
    moved = await wait_for("a job has gone on to another provider", lambda: count(fleet, ORDERED, following))
    return [
        describe(found),
        f"{len(unsent)} died between intent and POST: 0 POSTs for them; {moved} of their jobs went on to another",
    ]


async def _after_post(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    adapters = [fleet.replica("fal-adapter-1"), fleet.replica("replicate-adapter-1")]
    counts = await MetricDeltas.of(fleet, "fal-adapter", "replicate-adapter")
    # fal's callback arrives before the submit counts as lost; what Replicate accepted is found only in its list.
    await fleet.faults([{"provider": "replicate", "action": {"webhook": ["never"]}}])
    async with load.running(RATE):
        await asyncio.gather(*(crashed(one, f"after_post:{rng.randint(1, 3)}") for one in adapters))
        await asyncio.gather(*(crashed(one, f"after_outcome_tx:{rng.randint(1, 3)}") for one in adapters))
    found = await resolved(fleet, bill_log, began, lambda all_: any(one.ref is not None for one in all_))
    posted, taken = await all_bound(fleet, bill_log)
    resolutions = await counts.by("segue_ambiguous_resolved_total", "rung")
    return [
        f"4 kills after the POST; {describe(found)}; by {resolutions}, the others by an early callback",
        f"{taken} runs of {posted} attempts POSTed, each bound to its attempt, none accepted twice",
    ]


async def _while_running(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    adapters, queue_s = [one for service in ADAPTERS for one in fleet.replicas(service)], fleet.scale.queue_s
    # A run spends most of its time in the queue: the chaos catalogue limits its run time.
    long = {"queue_s": queue_s, "run_s": 5, "webhook": ["never"]}
    start_s, grace_s = queue_s * 2, queue_s * 2 + 30
    patient = {"SEGUE_START_DEADLINE_S": f"{start_s:g}", "SEGUE_SUBMIT_GRACE_S": f"{grace_s:g}"}
    await fleet.faults([{"prompt_contains": "a long one", "action": long}])
    try:
        await asyncio.gather(*(one.term() for one in adapters))
        await asyncio.gather(*(one.start(**patient) for one in adapters))
        await asyncio.gather(*(one.ready() for one in adapters))
        seen = await _killed_with_runs(fleet, load, rng)
        # Submits that were lost with their adapter take the grace, and then another provider's run.
        assert not (left := await load.drain(2 * grace_s)), left
    finally:
        # Restoring the fleet starts what is down, and does not change the settings of what runs.
        await asyncio.gather(*(one.term() for one in adapters))
        await asyncio.gather(*(one.start() for one in adapters))
    return seen


async def _killed_with_runs(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    bill_log, runs = BillLog(fleet), fleet.scale.runs
    names = ["fal-adapter-1", "replicate-adapter-1"]
    orders = [["fal", "replicate"], ["replicate", "fal"]]
    call = [load.submit("a long one", providers=rng.choice(orders)) for _ in range(runs + runs // 5)]
    running_now = "SELECT attempt_id FROM {}_adapter.attempts WHERE state = 'running'"
    async with load.running(RATE / 2):
        tasks = [asyncio.create_task(one) for one in call]

        async def enough() -> list[str]:
            rows = [row for name in ("fal", "replicate") for row in await fetch(fleet, running_now.format(name))]
            return [row["attempt_id"] for row in rows] if len(rows) >= runs else []

        held = await wait_for(f"{runs} runs are under way", enough, 60)
        posts = {one: len(bill_log.posts().get(one, [])) for one in held}
        began = time.monotonic()
        await asyncio.gather(*(fleet.replica(name).kill() for name in names))
        await asyncio.gather(*tasks)
        over = """
        SELECT count(*) FROM (SELECT attempt_id, state FROM fal_adapter.attempts
                              UNION ALL SELECT attempt_id, state FROM replicate_adapter.attempts) AS every
        WHERE attempt_id = ANY($1) AND state IN ('succeeded', 'failed', 'cancelled')
        """

        async def all_over() -> bool:
            return await count(fleet, over, held) == len(held)

        await wait_for("the other replicas have seen the runs to their end", all_over, 90)
        took_s = time.monotonic() - began
        # A run of the other load may have been cancelled by its client.
        ours = {task.result().job_id for task in tasks}
        long = [one for one in held if one.rpartition(".")[0] in ours]
        succeeded = await count(fleet, POLLED, long)
    assert 0 < succeeded == len(long), f"{succeeded} of {len(long)} long runs succeeded"
    again = {one: n for one, n in posts.items() if len(bill_log.posts().get(one, [])) != max(n, 1)}
    assert not again, f"POSTed again: {again}"
    return [
        f"{len(held)} runs under way when one adapter of each provider was killed, no callbacks",
        (
            f"the other replicas had seen all of them to their end {took_s:.0f} s later, the {succeeded} long ones to "
            "success; no new POST for any of them"
        ),
    ]


async def _sink(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, sink = await now(fleet), fleet.replica("log-sink-1")
    counts = await MetricDeltas.of(fleet, "log-sink")
    kills = 4
    async with load.running(RATE):
        await crashed(sink, f"sink_mid_batch:{rng.randint(1, 3)}")
        for _ in range(kills):
            await sink.ready()
            await asyncio.sleep(rng.uniform(0, 1))  # A random moment of its work.
            await sink.kill()
            await sink.start()
        await crashed(sink, "sink_mid_batch")
    await sink.ready()
    assert not await load.drain(40)
    read = [topic for topic in TOPICS if "log-sink" in topic.groups]

    async def dense() -> bool:
        rows = await fetch(fleet, "SELECT topic, kafka_partition, next_offset FROM log_sink.offsets")
        stored = {(row["topic"], row["kafka_partition"]): row["next_offset"] for row in rows}
        last = await ends(fleet, *read)
        return all(stored.get((place.topic, place.partition), 0) == end for place, end in last.items())

    await wait_for("the sink has read everything", dense)
    assert not await count(fleet, TWICE, began)
    assert not await counts.since("segue_sink_missed_total")
    stored = await count(fleet, "SELECT count(*) FROM log_sink.events WHERE stored_at >= $1", began)
    return [f"{kills + 2} kills, two of them inside its transaction; {stored} events stored once each, no gap"]


async def _relay(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    began, bill_log = await now(fleet), BillLog(fleet)
    before = await ends(fleet, *COMMANDS.values(), JOBS, ATTEMPTS)
    doomed = [fleet.replica(name) for name in ("orchestrator-1", "fal-adapter-1", "replicate-adapter-1")]
    counts = await MetricDeltas.of(fleet, "log-sink")
    async with load.running(RATE):
        for _ in range(2):  # The second time, a relay has rows to publish as well.
            await asyncio.gather(*(crashed(one, f"after_publish:{rng.randint(1, 3)}") for one in doomed))
    assert not await load.drain(50)

    async def published() -> bool:
        return not await count(fleet, OUTBOXES)

    await wait_for("the relays have published what was left", published)
    again = await duplicates(fleet, before)
    assert again, "nothing was published twice"

    async def dropped() -> bool:
        return await counts.since("segue_sink_repeated_total") > 0

    await wait_for("the sink has dropped a repeat", dropped)
    assert not await count(fleet, TWICE, began)
    assert not await count(fleet, GAPS)
    return [
        f"6 kills between publish and delete; {again} records twice in the topics, none twice in the log",
        f"{bill_log.once()} attempts POSTed, none accepted twice",
    ]


ROWS = {
    row.number: row
    for row in (
        Row(1, "Gateway killed amid POSTs", "one job a key; every 202 has its job", _gateway),
        Row(2, "Orchestrator killed before and after its transaction", "one command an attempt, no gap", _orchestrator),
        Row(
            3,
            "Adapter killed after the intent, before the POST",
            "ambiguous, grace, never accepted, next candidate; 0 POSTs",
            _after_intent,
        ),
        Row(
            4,
            "Adapter killed after the POST, before its transaction",
            "callback or listing binds the run; 1 POST",
            _after_post,
        ),
        Row(5, "Adapters killed while runs are under way", "the other replica polls; no new POST", _while_running),
        Row(6, "Sink killed amid batches", "rows unique, offsets dense", _sink),
        Row(7, "Publisher and relay killed between publish and delete", "repeats in topics, none in state", _relay),
    )
}
