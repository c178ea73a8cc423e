"""The embedded cluster, with the client that the services use."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from tests.patience import patient

from segue_cli.local.kafka import LocalKafka, kafka
from segue_cli.local.ports import free_port, is_free
from segue_cli.local.process import ChildFailed, child, ready_with

TOPICS = {"orders": 3, "answers": 1}
# A consumer that rejoins a group waits for the session timeout, less a second.
SESSION_MS = 1500


@pytest.fixture
async def cluster() -> AsyncIterator[LocalKafka]:
    async with kafka(TOPICS) as running:
        yield running


def consumer(cluster: LocalKafka, group: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        "orders",
        bootstrap_servers=cluster.bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=300,
    )


async def produce(cluster: LocalKafka, values: list[bytes]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers, acks="all", enable_idempotence=True
    ) as producer:
        for value in values:
            await producer.send_and_wait("orders", value, key=value, headers=[("ce_id", value)])


async def take(one: AIOKafkaConsumer, count: int) -> list[bytes]:
    async with asyncio.timeout(patient(60)):
        return sorted([bytes((await one.getone()).value or b"") for _ in range(count)])


async def test_the_given_topics_exist_with_their_partitions(cluster: LocalKafka) -> None:
    async with AIOKafkaConsumer(*TOPICS, bootstrap_servers=cluster.bootstrap_servers) as one:
        assert await one.topics() == set(TOPICS)
        assert {name: len(one.partitions_for_topic(name) or ()) for name in TOPICS} == TOPICS


async def test_each_group_reads_on_from_its_own_committed_offsets(cluster: LocalKafka) -> None:
    await produce(cluster, [b"1", b"2"])
    left, right = consumer(cluster, "left"), consumer(cluster, "right")
    await asyncio.gather(left.start(), right.start())
    assert await take(left, 2) == await take(right, 2) == [b"1", b"2"]
    await left.commit()
    await asyncio.gather(left.stop(), right.stop())
    await produce(cluster, [b"3"])
    async with consumer(cluster, "left") as again, consumer(cluster, "right") as anew:
        assert await take(again, 1) == [b"3"]
        assert await take(anew, 3) == [b"1", b"2", b"3"]


async def test_a_reader_can_seek_to_the_beginning_and_see_the_end(cluster: LocalKafka) -> None:
    await produce(cluster, [b"1"] * 3)
    async with consumer(cluster, "seeker") as one:
        await take(one, 3)
        await one.seek_to_beginning()
        first = await asyncio.wait_for(one.getone(), patient(60))
        assert first.headers == (("ce_id", b"1"),)
        place = TopicPartition("orders", first.partition)
        assert await one.end_offsets([place]) == {place: 3}


async def test_a_member_that_was_killed_is_replaced_within_two_session_timeouts(cluster: LocalKafka) -> None:
    await produce(cluster, [b"1"])
    member = f"""
import asyncio
from aiokafka import AIOKafkaConsumer
async def main():
    one = AIOKafkaConsumer("orders", bootstrap_servers={cluster.bootstrap_servers!r}, group_id="killed",
                           session_timeout_ms={SESSION_MS}, heartbeat_interval_ms=300)
    await one.start()
    print('{{"joined": true}}', flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    async with child([sys.executable, "-c", member], name="member", ready=ready_with("joined")) as process:
        await process.stop(signal.SIGKILL)
    async with asyncio.timeout(patient(2 * SESSION_MS / 1000 + 2)):
        async with consumer(cluster, "killed") as one:
            assert await take(one, 1) == [b"1"]


async def test_the_given_ports_are_the_same_after_a_restart() -> None:
    port = next(port for port in iter(free_port, 0) if is_free(port + 1))
    for _ in range(2):
        async with kafka({"orders": 2}, brokers=2, port=port) as cluster:
            assert cluster.bootstrap_servers == f"127.0.0.1:{port},127.0.0.1:{port + 1}"
            await produce(cluster, [b"1", b"2"])
            async with consumer(cluster, "group") as one:
                assert await take(one, 2) == [b"1", b"2"]


async def test_it_ends_when_its_stdin_closes() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "segue_cli.local.kafka", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert b"bootstrap_servers" in await process.stdout.readline()
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), patient(60)) == 0


async def test_an_invalid_topic_fails_the_start() -> None:
    with pytest.raises(ChildFailed, match="at least one partition"):
        async with kafka({"orders": 0}):
            pytest.fail("it can't have started")
