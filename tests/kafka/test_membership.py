"""Members with an identity on a real Apache Kafka: a restarted one gets its partitions back, and disturbs nobody."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiokafka.admin import NewPartitions
from tests.chassis import toy as toy_module
from tests.chassis.toy import Toy, environment, job, request, runtime_for, send, toy, until
from tests.patience import patient

from chassis.kafka import membership
from chassis.kafka.membership import member
from chassis.kafka.topics import admin
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import open_pool
from chassis.runtime.runtime import Consuming, Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import PARTITIONS, REQUESTS
from segue_cli.local.process import Child, child

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
# Longer than a test: what waits for the end of a session fails it.
SESSION_S = 300


def runtime(name: str) -> Runtime:
    return Runtime(name, make_telemetry(name, None), consuming=Consuming(SESSION_S, 20))


def process(servers: str, database_url: str, name: str) -> AbstractAsyncContextManager[Child]:
    more = {"SEGUE_KAFKA_SESSION_TIMEOUT_S": str(SESSION_S), "TOY_IDENTIFIED": "1"}
    return child(
        [sys.executable, toy_module.__file__, name],
        name=name,
        env=environment(servers, database_url, **more),
        ready=lambda line: {} if '"event": "ready"' in line else None,
        ready_within_s=patient(60),
    )


def number(of: Runtime) -> str:
    return str(of.member).partition(".")[0]


def coordinator(made: Toy) -> Any:
    assert made.consumer is not None
    assert made.consumer.subscriber.consumer is not None
    return made.consumer.subscriber.consumer._coordinator


def partitions(made: Toy) -> int:
    assert made.consumer is not None
    consumer = made.consumer.subscriber.consumer
    return 0 if consumer is None else len(consumer.assignment())


async def has(made: Toy, count: int) -> bool:
    return partitions(made) == count


async def seen(made: Toy, count: int) -> bool:
    return set(await made.commits()) == set(map(job, range(count)))


async def test_a_killed_leader_returns_to_its_partitions_without_a_rebalance_and_shares_out_new_ones(
    servers: str, database_url: str
) -> None:
    async with (
        process(servers, database_url, "pair") as leader,
        toy(servers, database_url, runtime("pair"), identified=True) as other,
    ):
        await until(lambda: has(other, 3))
        assert number(other.runtime) == "1"
        generation = coordinator(other).generation
        await leader.stop(signal.SIGKILL)
        async with process(servers, database_url, "pair"):
            for n in range(PARTITIONS):
                await send(servers, [request(n)], partition=n)
            await until(lambda: seen(other, PARTITIONS))
            assert coordinator(other).generation == generation, "the group has not been rebalanced"
            async with admin(KafkaCluster(servers)) as client:
                await client.create_partitions({REQUESTS.name: NewPartitions(PARTITIONS + 1)})
            await send(servers, [request(PARTITIONS)], partition=PARTITIONS)
            await until(lambda: seen(other, PARTITIONS + 1))
        await until(lambda: has(other, PARTITIONS + 1))


async def test_a_member_that_stops_leaves_its_partitions_to_the_others(servers: str, database_url: str) -> None:
    async with toy(servers, database_url, runtime("leaving"), identified=True) as stays:
        async with toy(servers, database_url, runtime("leaving"), identified=True) as leaves:
            await until(lambda: has(leaves, 3))
        await until(lambda: has(stays, PARTITIONS))


async def test_each_process_has_the_lowest_identity_that_is_free(servers: str, database_url: str) -> None:
    cluster, runtimes = KafkaCluster(servers), [runtime_for("numbered") for _ in range(4)]
    async with (
        open_pool(database_url, "public") as one,
        open_pool(database_url, "public") as two,
        member(one, cluster, runtimes[0]),
    ):
        async with (
            member(two, cluster, runtimes[1]),
            member(two, cluster, runtime_for("another service")),
        ):
            pass
        async with member(two, cluster, runtimes[2]), member(two, cluster, runtimes[3]):
            pass
    assert [number(each) for each in runtimes] == ["0", "1", "1", "2"]


async def test_a_process_whose_identity_was_taken_during_an_outage_of_the_database_ends_in_one_line(
    servers: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "CHECK_EVERY_S", 0.2)
    older, newer = runtime_for("numbered"), runtime_for("numbered")
    async with (
        open_pool(database_url, "public") as one,
        open_pool(database_url, "public") as two,
        member(one, KafkaCluster(servers), older),
    ):
        await two.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        async with member(two, KafkaCluster(servers), newer):
            await asyncio.wait_for(older.stopping.wait(), patient(30))
            assert older.member == newer.member
            assert newer.failure is None
    assert str(older.failure).startswith("another process has taken the place of this one in the group")


async def test_an_identity_is_kept_over_an_outage_of_the_database(
    servers: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "CHECK_EVERY_S", 0.2)
    kept = runtime_for("numbered")
    async with open_pool(database_url, "public") as one, open_pool(database_url, "public") as two:

        async def held() -> bool:
            count: int = await two.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            return count > 0

        async with member(one, KafkaCluster(servers), kept):
            await two.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            await until(held)
            assert kept.failure is None
