"""The batches of a partition without a leader, in aiokafka's accumulator on a clock of the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.producer import message_accumulator
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager

from chassis.kafka.producer import sequence

PLACE = TopicPartition("topic", 0)
EXPIRES_S = 10.0


class Cluster:
    leader = 1

    def leader_for_partition(self, _: TopicPartition) -> int:
        return self.leader


class Clock:
    """Goes on by a step each time it is read."""

    now = 0.0

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s

    def monotonic(self) -> float:
        self.now += self._step_s
        return self.now


@pytest.mark.parametrize("step_s", [0.15 * EXPIRES_S * n for n in range(1, 7)])
async def test_a_batch_that_was_sent_never_expires(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    sequence.leave_no_gaps()
    numbers = TransactionManager(None, 0)
    numbers.set_pid_and_epoch(1, 0)
    cluster = Cluster()
    accumulator: Any = MessageAccumulator(cluster, 1000, 0, EXPIRES_S, txn_manager=numbers)
    clock = SimpleNamespace(monotonic=Clock(0).monotonic)
    monkeypatch.setattr(message_accumulator, "time", clock)
    monkeypatch.setattr(sequence, "time", clock)
    sent = await accumulator.add_message(PLACE, b"key", b"value", 1)
    nodes, _ = accumulator.drain_by_nodes(set())
    accumulator.reenqueue(nodes[1][PLACE])
    cluster.leader = -1
    # A pass looks at it several times, between which it may expire.
    clock.monotonic = Clock(step_s).monotonic
    for _ in range(10):
        accumulator.drain_by_nodes(set())
    assert not sent.done()
    cluster.leader = 1
    nodes, _ = accumulator.drain_by_nodes(set())
    assert list(nodes[1]) == [PLACE]
    nodes[1][PLACE].failure(TimeoutError())
    assert isinstance(sent.exception(), TimeoutError)
