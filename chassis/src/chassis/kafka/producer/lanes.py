"""Publishing many records, so that no partition waits for another, and those that a job goes on with come first."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka.errors import KafkaError

from chassis.kafka.broker import TOO_LARGE, SegueBroker, partition_of, publish
from contracts.envelope import Record
from contracts.topics import TOPICS

_ORDER: Final = {topic.name: place for place, topic in enumerate(TOPICS)}

Lane = tuple[str, int | None]
"""A topic and its partition; None if the producer does not know the topic."""


async def publish_all(
    broker: SegueBroker, records: Sequence[Record], within_s: float, handed_over: Callable[[], None] = lambda: None
) -> list[Exception | None]:
    """Publish the records; the result has an error for each that Kafka did not confirm within `within_s` seconds.

    Such a record may still be stored later. Records of one partition are handed to the producer in their order: once it
    takes one of them not, it gets none of those behind it, unless the one was too large. Topics come in the order of
    the topic map: a broker answers the consumers of the first ones first. `handed_over` is called when the producer has
    all that it takes.
    """
    sent: list[asyncio.Future[Any] | Exception] = [TimeoutError("it was not handed over in time") for _ in records]
    lanes: dict[Lane, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        lanes[record.topic, partition_of(broker, record)].append(place)

    async def hand_over(places: Sequence[int]) -> None:
        refused: KafkaError | None = None
        for place in places:
            try:
                sent[place] = refused or await publish(broker, records[place])
            except Exception as error:  # noqa: BLE001 - one record's error must not delay the others
                sent[place] = error
                if isinstance(error, KafkaError) and not isinstance(error, TOO_LARGE):
                    refused = error

    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            async with asyncio.TaskGroup() as lanes_at_work:
                for lane in sorted(lanes, key=_place):
                    lanes_at_work.create_task(hand_over(lanes[lane]))
            handed_over()
            if under_way := [each for each in sent if not isinstance(each, Exception)]:
                await asyncio.wait(under_way)
    return [each if isinstance(each, Exception) else _outcome(each) for each in sent]


def _place(lane: Lane) -> int:
    topic, _ = lane
    return _ORDER.get(topic, len(_ORDER))


def _outcome(sent: asyncio.Future[Any]) -> Exception | None:
    if not sent.done() or sent.cancelled():
        return TimeoutError("Kafka has not confirmed it in time")
    error = sent.exception()
    return error if error is None or isinstance(error, Exception) else RuntimeError(repr(error))
