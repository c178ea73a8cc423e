"""Publishing to a real Apache Kafka, which checks the sequence numbers of a producer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import LeaderNotAvailableError, NodeNotReadyError
from tests.patience import patient

from chassis.kafka.broker import SegueBroker, client_of, connected, make_broker, publish, publish_batch
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Record
from contracts.topics import JOBS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def records(*values: bytes) -> list[Record]:
    return [Record(JOBS.name, b"key", value, ()) for value in values]


async def one_by_one(broker: SegueBroker, *values: bytes) -> None:
    for sent in [await publish(broker, each) for each in records(*values)]:
        await sent


async def together(broker: SegueBroker, *values: bytes) -> None:
    await (await publish_batch(broker, records(*values), JOBS.name, 0))


async def sent_in_vain(broker: SegueBroker, patch: pytest.MonkeyPatch) -> asyncio.Future[Any]:
    """The future of a record that was sent to a broker which is away; nothing reaches one as long as `patch` lasts."""
    tried = asyncio.Event()

    async def away(*_: object, **__: object) -> None:
        tried.set()
        raise NodeNotReadyError

    patch.setattr(client_of(broker).client, "send", away)
    sent = await publish(broker, records(b"2")[0])
    await asyncio.wait_for(tried.wait(), patient(20))
    return sent


async def test_records_that_were_sent_once_wait_for_a_leader(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = make_broker(KafkaCluster(servers), "orchestrator", request_timeout_s=1)
    async with connected(broker, Runtime("orchestrator", make_telemetry("orchestrator", None)), writes=[JOBS]):
        await one_by_one(broker, b"1")
        client: Any = client_of(broker).client
        with monkeypatch.context() as patch:
            sent = await sent_in_vain(broker, patch)
            patch.setattr(client.cluster, "leader_for_partition", lambda _: -1)
            await asyncio.wait([sent], timeout=patient(2))
            assert not sent.done()
        await asyncio.wait_for(sent, patient(20))
        await one_by_one(broker, b"3")
        assert broker.lost is None


@pytest.mark.parametrize("sent", [one_by_one, together])
async def test_a_partition_that_has_had_no_leader_for_a_while_takes_the_next_records(
    servers: str, monkeypatch: pytest.MonkeyPatch, sent: Callable[..., Awaitable[None]]
) -> None:
    broker = make_broker(KafkaCluster(servers), "orchestrator", request_timeout_s=1)
    async with connected(broker, Runtime("orchestrator", make_telemetry("orchestrator", None)), writes=[JOBS]):
        await sent(broker, b"1")
        cluster: Any = client_of(broker).client.cluster
        with monkeypatch.context() as patch:
            patch.setattr(cluster, "leader_for_partition", lambda _: -1)
            with pytest.raises(LeaderNotAvailableError):
                await sent(broker, b"2", b"3")
        await sent(broker, b"2", b"3")
        await sent(broker, b"4")
        assert broker.lost is None


async def test_nothing_is_taken_behind_a_record_that_was_sent_once(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make_broker(KafkaCluster(servers), "orchestrator", request_timeout_s=1)
    async with connected(broker, Runtime("orchestrator", make_telemetry("orchestrator", None)), writes=[JOBS]):
        await one_by_one(broker, b"1")
        client: Any = client_of(broker).client
        producer: Any = client_of(broker)
        partition = producer._partition(JOBS.name, None, None, None, b"key", b"key")
        with monkeypatch.context() as patch:
            sent = await sent_in_vain(broker, patch)
            behind = await publish(broker, records(b"3")[0])
            patch.setattr(client.cluster, "leader_for_partition", lambda _: -1)
            with pytest.raises(LeaderNotAvailableError):
                await asyncio.wait_for(behind, patient(20))
            assert not sent.done()
            with pytest.raises(LeaderNotAvailableError):
                await publish(broker, records(b"4")[0])
            with pytest.raises(LeaderNotAvailableError):
                await publish_batch(broker, records(b"4"), JOBS.name, partition)
        await asyncio.wait_for(sent, patient(20))
        await one_by_one(broker, b"3", b"4")
        await together(broker, b"5", b"6")
        assert broker.lost is None
