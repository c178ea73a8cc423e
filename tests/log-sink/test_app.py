"""The whole sink, with the embedded Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client import REGISTRY
from tests.buckets import bucket_granting
from tests.patience import eventually, patient

import log_sink
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, latest_migration
from chassis.runtime.runtime import Runtime
from contracts.envelope import Record, encode
from contracts.topics import DEAD_LETTERS, PARTITIONS, TOPICS
from log_sink.app import app
from log_sink.settings import SinkSettings
from segue_cli.local.kafka import kafka

pytestmark = pytest.mark.asyncio(loop_scope="session")


def missed(topic: str = "segue.requests") -> float:
    return REGISTRY.get_sample_value("segue_sink_missed_total", {"topic": topic}) or 0.0


@pytest_asyncio.fixture(loop_scope="session")
async def bootstrap() -> AsyncIterator[str]:
    async with kafka({topic.name: PARTITIONS for topic in TOPICS}) as cluster:
        yield cluster.bootstrap_servers


@asynccontextmanager
async def sink(bootstrap: str, database_url: str, **more: Any) -> AsyncIterator[Runtime]:
    settings = SinkSettings(
        _env_file=None, kafka_bootstrap_servers=bootstrap, database_url=database_url, otlp_endpoint=None, **more
    )
    runtime = Runtime("log-sink", make_telemetry("log-sink", None))
    async with app(settings, runtime):
        runtime.started = True
        yield runtime
        runtime.stopping.set()


async def send(bootstrap: str, records: list[Record]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for record in records:
            await producer.send_and_wait(
                record.topic, record.value, key=record.key, headers=list(record.headers), partition=0
            )


async def read_all(pool: Pool, bootstrap: str, topic: str) -> bool:
    """Whether the sink has recorded partition 0 of the topic as read to its end."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        ends = await consumer.end_offsets([TopicPartition(topic, 0)])
    end = next(iter(ends.values()))
    return bool(
        await pool.fetchval("SELECT next_offset = $1 FROM offsets WHERE topic = $2 AND kafka_partition = 0", end, topic)
    )


async def test_neighbours_of_poison_are_stored_and_nothing_is_lost(
    bootstrap: str, database_url: str, pool: Pool, story_of: Any
) -> None:
    good = [encode(story_of(f"job {n}").requested(), source="test", traceparent=None) for n in range(40)]
    refused = encode(story_of("refused").requested(), source="test", traceparent=None)
    poison = Record(refused.topic, refused.key, refused.value[:-1] + b',"mood":"\\u0000"}', refused.headers)
    garbage = Record(refused.topic, b"k", b"\xff not json", refused.headers)
    foreign = Record(refused.topic, b"k", b"{}", (("ce_type", b"segue.job.praised.v1"),))
    before = missed(refused.topic)
    await send(bootstrap, [*good[:20], poison, foreign, *good[20:30], garbage])

    async with sink(bootstrap, database_url) as runtime:
        await eventually(lambda: read_all(pool, bootstrap, refused.topic))
        await send(bootstrap, [garbage, *good[30:]])
        await eventually(lambda: read_all(pool, bootstrap, refused.topic))
        assert runtime.unhealthy() is None
        assert runtime.unready() is None

    assert await pool.fetchval("SELECT count(*) FROM events") == 40
    assert await pool.fetchval("SELECT count(*) FROM v_jobs") == 40
    assert [tuple(row) for row in await pool.fetch("SELECT kafka_offset, value FROM quarantine")] == [
        (20, poison.value)
    ]
    assert missed(refused.topic) == before
    assert await dead_letters(bootstrap, 2) == [garbage.value] * 2


async def dead_letters(bootstrap: str, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with (
        asyncio.timeout(patient(60)),
        AIOKafkaConsumer(DEAD_LETTERS.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        while len(values) < count:
            fetched = await consumer.getmany(timeout_ms=500)
            values += [record.value for records in fetched.values() for record in records]
    return values


async def test_the_startup_log_has_the_configuration_without_the_password(
    bootstrap: str, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = database_url.replace("segue@", "segue:hunter2@")  # connections from loopback are trusted with any password
    async with sink(bootstrap, secret):
        pass
    logged = capsys.readouterr().out
    assert latest_migration(log_sink) in logged
    assert bootstrap in logged
    assert "hunter2" not in logged


async def test_of_a_bucket_it_needs_no_more_than_to_list_and_to_delete(bootstrap: str, database_url: str) -> None:
    with bucket_granting("list") as url:
        async with sink(bootstrap, database_url, artifact_store_url=url, artifact_retention_days=30) as runtime:

            async def used() -> bool:
                return runtime.dependencies()["artifact_store"].status != "unknown"

            await eventually(used)
            assert runtime.dependencies()["artifact_store"].status == "ok"
