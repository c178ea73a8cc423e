"""Publishing to a real Apache Kafka, which checks the sequence numbers of a producer."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import LeaderNotAvailableError

from chassis.kafka.broker import client_of, connected, make_broker, publish_batch
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Record
from contracts.topics import JOBS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def records(*values: bytes) -> list[Record]:
    return [Record(JOBS.name, b"key", value, ()) for value in values]


async def test_a_partition_that_has_had_no_leader_for_a_while_takes_the_next_records(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make_broker(KafkaCluster(servers), "orchestrator", request_timeout_s=1)
    async with connected(broker, Runtime("orchestrator", make_telemetry("orchestrator", None)), writes=[JOBS]):
        await (await publish_batch(broker, records(b"1"), JOBS.name, 0))
        cluster: Any = client_of(broker).client.cluster
        with monkeypatch.context() as patch:
            patch.setattr(cluster, "leader_for_partition", lambda _: -1)
            unsent = await publish_batch(broker, records(b"2", b"3"), JOBS.name, 0)
            with pytest.raises(LeaderNotAvailableError):
                await unsent
        await (await publish_batch(broker, records(b"2", b"3"), JOBS.name, 0))
        await (await publish_batch(broker, records(b"4"), JOBS.name, 0))
        assert broker.lost is None
