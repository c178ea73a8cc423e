"""Offsets are committed together, once in a while, and never those of partitions that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from chassis.delivery.offsets import COMMIT_EVERY_S, Offsets

ONE, TWO = TopicPartition("requests", 1), TopicPartition("requests", 2)


class Consumer:
    """The part of a consumer that commits."""

    def __init__(self) -> None:
        self.ours = {ONE, TWO}
        self.commits: list[dict[TopicPartition, int]] = []
        self.fails: BaseException | None = None

    def assignment(self) -> set[TopicPartition]:
        return self.ours

    async def commit(self, ends: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if self.fails is not None:
            raise self.fails
        self.commits.append({place: end for place, (end, _) in ends.items()})


@pytest.fixture
def consumer() -> Any:
    return Consumer()


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_batches_within_a_second_are_one_commit(consumer: Any) -> None:
    clock = Clock()
    made = Offsets(clock)
    for end in range(1, 11):
        made.finished({ONE: end})
        await made.commit_if_due(consumer)
    assert consumer.commits == [{ONE: 1}]
    made.finished({TWO: 5})
    clock.now += COMMIT_EVERY_S
    await made.commit_if_due(consumer)
    assert consumer.commits[1:] == [{ONE: 10, TWO: 5}]


async def test_what_is_committed_is_not_committed_again(consumer: Any) -> None:
    made = Offsets()
    for _ in range(3):
        made.finished({ONE: 7})
        await made.commit(consumer)
    assert consumer.commits == [{ONE: 7}]


async def test_partitions_that_are_gone_are_left_out(consumer: Any) -> None:
    made = Offsets()
    made.finished({ONE: 7, TWO: 9})
    consumer.ours = {TWO}
    await made.commit(consumer)
    consumer.ours = {ONE, TWO}
    await made.commit(consumer)
    assert consumer.commits == [{TWO: 9}]


@pytest.mark.parametrize("error", [KafkaError(), TimeoutError()], ids=repr)
async def test_a_commit_that_fails_is_made_up_for(consumer: Any, error: BaseException) -> None:
    clock = Clock()
    made = Offsets(clock)
    consumer.fails = error
    made.finished({ONE: 7, TWO: 9})
    await made.commit(consumer)
    consumer.fails = None
    made.finished({ONE: 8})
    await made.commit_if_due(consumer)
    assert consumer.commits == [], "it is not tried again at once"
    clock.now += COMMIT_EVERY_S
    await made.commit_if_due(consumer)
    assert consumer.commits == [{ONE: 8, TWO: 9}]


async def test_a_commit_holds_up_a_rebalance_for_a_limited_time(consumer: Any) -> None:
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    consumer.commit = never
    made = Offsets()
    made.finished({ONE: 7})
    await made.commit(consumer, within_s=0.01)
