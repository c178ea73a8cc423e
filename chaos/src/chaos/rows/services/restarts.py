"""Row 8: processes are told to stop: one by one under load, then all of them without Kafka."""

from __future__ import annotations

import asyncio
import random

from chaos.cluster.fleet import Fleet
from chaos.cluster.replica import DRAIN_S, Replica
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.probes import count, ends, wait_for
from contracts.topics import DEAD_LETTERS, SERVICES

RUNNING = """
SELECT count(*) FROM (SELECT job_id, state FROM fal_adapter.attempts
                      UNION ALL SELECT job_id, state FROM replicate_adapter.attempts) AS every
WHERE job_id = ANY($1) AND state = 'running'
"""


async def _rolling(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    dead = await ends(fleet, DEAD_LETTERS)
    took: dict[str, float] = {}

    async def rolled(replicas: list[Replica]) -> None:
        for one in rng.sample(replicas, len(replicas)):
            took[one.name] = await _told_to_stop(one)
            await one.start()
            await one.ready()

    async with load.running(RATE):
        await asyncio.gather(*(rolled(fleet.replicas(service)) for service in SERVICES))
    assert not await load.drain(40)
    held = await _running(fleet, load)
    await asyncio.gather(*(broker.kill() for broker in fleet.brokers))
    without = await asyncio.gather(*(one.term() for one in fleet.members))
    assert max(without) < DRAIN_S, without
    codes = {one.name: one.returncode for one in fleet.members if one.returncode != 0}
    assert not codes, f"did not end with 0: {codes}"
    await fleet.restore()
    assert not await load.drain(90)
    assert await ends(fleet, DEAD_LETTERS) == dead, "there are dead letters"
    return [
        f"{len(took)} replicas restarted under load, a service's one by one, exit 0 within {max(took.values()):.1f} s",
        f"all stopped with Kafka down and {held} runs under way: ended within {max(without):.1f} s",
    ]


async def _running(fleet: Fleet, load: Load) -> int:
    """The number of runs that are under way, so that the adapters have work in hand."""
    await fleet.faults([{"prompt_contains": "still running", "action": {"run_s": 5}}])
    orders = (["fal", "replicate"], ["replicate", "fal"])
    sent = await asyncio.gather(*(load.submit("still running", providers=order) for order in orders))

    async def held() -> bool:
        return await count(fleet, RUNNING, [one.job_id for one in sent]) == len(sent)

    await wait_for("the adapters have runs under way", held, 30)
    return len(sent)


async def _told_to_stop(replica: Replica) -> float:
    took = await replica.term()
    assert replica.returncode == 0, f"{replica.name} ended with {replica.returncode} upon SIGTERM"
    assert took < DRAIN_S, f"{replica.name} took {took:.0f} s"
    return took


ROWS = {
    8: Row(8, "Rolling restart, then SIGTERM with Kafka down", "no repeat; gone within 30 s", _rolling, unsettles=True)
}
