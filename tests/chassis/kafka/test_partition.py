"""The partition of a record is the one that Kafka's own clients choose by its key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.partitioner import DefaultPartitioner

from chassis.kafka.broker import SegueBroker, make_broker, partition_of
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Record
from contracts.ids import job_id_for


def broker_that_knows(monkeypatch: pytest.MonkeyPatch, partitions: set[int] | None) -> SegueBroker:
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: partitions)
    producer = SimpleNamespace(client=SimpleNamespace(cluster=cluster))
    monkeypatch.setattr("chassis.kafka.broker.client_of", lambda broker: cast("Any", producer))
    return make_broker(KafkaCluster("127.0.0.1:1"), "test")


@pytest.mark.parametrize("partitions", [1, 3, 12])
def test_it_is_that_of_the_key(monkeypatch: pytest.MonkeyPatch, partitions: int) -> None:
    broker = broker_that_knows(monkeypatch, set(range(partitions)))
    for key in (job_id_for("default", str(n)).encode() for n in range(100)):
        chosen = DefaultPartitioner()(key, list(range(partitions)), [])
        assert partition_of(broker, Record("segue.jobs", key, b"{}", ())) == chosen


def test_it_is_unknown_while_the_topic_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert partition_of(broker_that_knows(monkeypatch, None), Record("segue.jobs", b"a", b"{}", ())) is None
