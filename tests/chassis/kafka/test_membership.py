"""The embedded Kafka has no identities and allows one process of each service: a second one is refused."""

from __future__ import annotations

import asyncio

import pytest
from tests.chassis.toy import runtime_for
from tests.patience import patient

from chassis.errors import CannotStart
from chassis.kafka.membership import member
from chassis.postgres.pool import Pool, open_pool
from chassis.settings.kafka.cluster import KafkaCluster
from segue_cli.local.postgres import postgres


async def test_a_second_process_is_refused_until_the_first_has_ended(embedded_kafka: str, database_url: str) -> None:
    async with open_pool(database_url, "public") as one, open_pool(database_url, "public") as two:
        async with member(one, KafkaCluster(embedded_kafka), runtime_for()):
            with pytest.raises(CannotStart, match=r"^KAFKA_BOOTSTRAP_SERVERS: .* several replicas need a real cluster"):
                async with asyncio.timeout(patient(15)), member(two, KafkaCluster(embedded_kafka), runtime_for()):
                    pytest.fail("there is no room for it")
            async with member(two, KafkaCluster(embedded_kafka), runtime_for("another service")):
                pass
        async with member(two, KafkaCluster(embedded_kafka), runtime_for()):
            pass


async def test_a_second_process_waits_for_a_first_that_died_just_now(embedded_kafka: str, database_url: str) -> None:
    async with open_pool(database_url, "public") as one, open_pool(database_url, "public") as two:
        first = member(one, KafkaCluster(embedded_kafka), runtime_for())
        await first.__aenter__()
        second = asyncio.create_task(_start_and_stop(two, embedded_kafka))
        one.terminate()
        await asyncio.wait_for(second, patient(15))
        await first.__aexit__(None, None, None)


async def _start_and_stop(pool: Pool, servers: str) -> None:
    async with member(pool, KafkaCluster(servers), runtime_for()):
        pass


async def test_a_lost_database_does_not_matter_at_the_stop(embedded_kafka: str) -> None:
    async with (
        postgres() as server,
        open_pool(server.url, "public") as pool,
        member(pool, KafkaCluster(embedded_kafka), runtime_for()),
    ):
        await server.stop("immediate")
