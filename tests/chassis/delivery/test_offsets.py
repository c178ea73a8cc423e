"""Offsets are committed together, once in a while, and never those of partitions that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from chassis.delivery.offsets import COMMIT_EVERY_S, Offsets
from chassis.kafka.metadata import TopicState

ONE, TWO = TopicPartition("requests", 1), TopicPartition("requests", 2)


OLD, NEW = "id-of-the-first", "id-of-the-second"


class Consumer:
    """The part of a consumer that has partitions, seeks and commits; `group` has the committed offsets."""

    def __init__(self) -> None:
        self.ours = {ONE, TWO}
        self.commits: list[dict[TopicPartition, int]] = []
        self.group: dict[TopicPartition, tuple[int, str]] = {}
        self.sought: list[TopicPartition] = []
        self.fails: BaseException | None = None
        self._coordinator = SimpleNamespace(fetch_committed_offsets=self._fetch)
        self.assign()

    def assign(self) -> None:
        """Assign the same partitions anew."""
        assignment = SimpleNamespace(active=True, tps=frozenset(self.ours))
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))

    def assignment(self) -> set[TopicPartition]:
        return self.ours

    def seek(self, place: TopicPartition, offset: int) -> None:
        assert offset == 0
        self.sought.append(place)

    async def commit(self, ends: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if self.fails is not None:
            raise self.fails
        self.group |= ends
        self.commits.append({place: end for place, (end, _) in ends.items()})

    async def _fetch(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {place: OffsetAndMetadata(*self.group[place]) for place in places if place in self.group}


@pytest.fixture
def consumer() -> Any:
    return Consumer()


async def begun(consumer: Any, clock: Clock | None = None) -> Offsets:
    """Offsets whose positions have been checked."""
    made = Offsets(clock or Clock())
    await topic_is(OLD, made, consumer)
    return made


async def topic_is(topic_id: str, made: Offsets, consumer: Any) -> None:
    await made.check(consumer, {"requests": TopicState(topic_id, frozenset({1, 2}))})


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_batches_within_a_second_are_one_commit(consumer: Any) -> None:
    clock = Clock()
    made = await begun(consumer, clock)
    for end in range(1, 11):
        made.finished({ONE: end})
        await made.commit_if_due(consumer)
    assert consumer.commits == [{ONE: 1}]
    made.finished({TWO: 5})
    clock.now += COMMIT_EVERY_S
    await made.commit_if_due(consumer)
    assert consumer.commits[1:] == [{ONE: 10, TWO: 5}]


async def test_what_is_committed_is_not_committed_again(consumer: Any) -> None:
    made = await begun(consumer)
    for _ in range(3):
        made.finished({ONE: 7})
        await made.commit(consumer)
    assert consumer.commits == [{ONE: 7}]


async def test_partitions_that_are_gone_are_left_out(consumer: Any) -> None:
    made = await begun(consumer)
    made.finished({ONE: 7, TWO: 9})
    consumer.ours = {TWO}
    await made.commit(consumer)
    consumer.ours = {ONE, TWO}
    await made.commit(consumer)
    assert consumer.commits == [{TWO: 9}]


@pytest.mark.parametrize("error", [KafkaError(), TimeoutError()], ids=repr)
async def test_a_commit_that_fails_is_made_up_for(consumer: Any, error: BaseException) -> None:
    clock = Clock()
    made = await begun(consumer, clock)
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
    made = await begun(consumer)
    made.finished({ONE: 7})
    await made.commit(consumer, within_s=0.01)


async def test_the_position_of_an_assignment_that_is_not_checked_is_not_committed(consumer: Any) -> None:
    clock = Clock()
    made = await begun(consumer, clock)
    await topic_is(NEW, made, consumer)
    # Another replica commits its last offset of the earlier topic and goes; its partition comes during a poll.
    consumer.group = {ONE: (110, OLD)}
    consumer.assign()
    made.finished({ONE: 110})
    await made.commit(consumer)
    assert consumer.commits == []
    await topic_is(NEW, made, consumer)
    assert ONE in consumer.sought, "the new topic is read from its start"
    clock.now += COMMIT_EVERY_S
    await made.commit_if_due(consumer)
    assert consumer.commits == []
    made.finished({ONE: 5})
    await made.commit(consumer)
    assert consumer.group == {ONE: (5, NEW)}


@pytest.mark.parametrize(("topic_id", "assigned_anew"), [(NEW, False), (OLD, True)])
async def test_a_commit_that_fails_after_its_positions_were_reset_is_not_tried_again(
    consumer: Any, topic_id: str, assigned_anew: bool
) -> None:
    begins, over = asyncio.Event(), asyncio.Event()
    commit = consumer.commit

    async def fails_late(_: object) -> None:
        begins.set()
        await over.wait()
        raise KafkaError

    made = await begun(consumer)
    consumer.commit = fails_late
    made.finished({ONE: 110})
    giving_up = asyncio.create_task(made.commit(consumer))
    await begins.wait()
    if assigned_anew:
        consumer.assign()
    await topic_is(topic_id, made, consumer)
    over.set()
    await giving_up
    consumer.commit = commit
    made.finished({TWO: 1})
    await made.commit(consumer)
    assert consumer.group == {TWO: (1, topic_id)}
