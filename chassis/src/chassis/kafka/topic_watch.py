"""Checks that the topics of a service exist, have all their partitions, and are consumed.

A topic can be deleted and created again under a running consumer, or created with too few partitions. Its group then
goes on with the other topics, and nothing else reports an error. So each consumer knows its topics and asks the
cluster: one request every 10 s, two if several replicas share the partitions, and every second while there is a
problem. The group as a whole must have every partition; a member without any is fine, since there may be more replicas
than partitions. A group whose rebalance does not finish consumes nothing either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest

from chassis.errors import CannotStart
from chassis.kafka.access import denied_by, denied_topics
from chassis.kafka.diagnosis import refusal
from chassis.kafka.metadata import TopicState, describe_topics
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.observability.metrics import TOPIC_UNAVAILABLE
from chassis.runtime.dependencies import Dependency, failed_with
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import Topic

LOOK_EVERY_S: Final = 10.0
LOOK_AGAIN_S: Final = 1.0
ANSWER_LIMIT_S: Final = 5.0
GROUP_LIMIT_S: Final = 2.0
SHARING_LIMIT_S: Final = 30.0
"""How long the assignment of partitions may be unknown, in seconds, before they count as not consumed."""

Partitions = AbstractSet[TopicPartition]


def missing(names: Iterable[str], there: Mapping[str, TopicState]) -> dict[str, str]:
    """The topics that the cluster does not have, by name, with the problem as text."""
    return {
        name: f"{name} is missing; `segue topics` creates it"
        for name in names
        if name not in there or not there[name].partitions
    }


def too_few(names: Iterable[str], there: Mapping[str, TopicState], wanted: int) -> dict[str, str]:
    """The topics with fewer partitions than `wanted`, by name, with the problem as text."""
    counts = {name: len(there[name].partitions) for name in names if name in there}
    return {
        name: f"{name} has {count} of {wanted} partitions; kafka-topics.sh --alter adds the others"
        for name, count in counts.items()
        if 0 < count < wanted
    }


def unconsumed(names: Iterable[str], there: Mapping[str, TopicState], assigned: Partitions) -> dict[str, str]:
    """The topics with partitions that no member of the group has, by name, with the problem as text."""
    wrong: dict[str, str] = {}
    for name in names:
        numbers = there[name].partitions if name in there else frozenset()
        if nobodys := [number for number in sorted(numbers) if TopicPartition(name, number) not in assigned]:
            wrong[name] = f"{name} is not consumed: no replica has partitions {_listed(nobodys)}"
    return wrong


class TopicWatch:
    """Checks the topics of one consumer. It is called from the consumer's poll loop, so no poll runs at the same time.

    Without a group the consumer assigns itself all existing partitions, so only whole topics can be missing.
    """

    def __init__(
        self, cluster: KafkaCluster, topics: Sequence[Topic], group: str | None, *, needed: Sequence[Topic] = ()
    ) -> None:
        """`group` is the name of the consumer group on the cluster; `needed` are topics that are written."""
        self._cluster = cluster
        self._topics = tuple(topics)
        self._needed = tuple(needed)
        self._consumed = tuple(map(cluster.names.of, topics))
        self._names = frozenset(map(cluster.names.of, (*topics, *needed)))
        self._group = group
        self.kafka = Dependency()
        """How the cluster answered last."""
        self._refusal: str | None = None
        """Why the brokers do not take this client, as text."""
        self._denied: str | None = None
        """What the cluster denied the consumer at its last poll, as text."""
        self._diagnose_at = 0.0
        self._due_at = 0.0
        self._watched: AIOKafkaConsumer | None = None
        self._wrong: dict[str, str] = {}
        self._unconsumed: dict[str, str] = {}
        self._unknown_since: float | None = None
        """Since when the assignment of the group's members is unknown (monotonic seconds)."""
        self._log = get_logger("chassis.topics").bind(group=group)
        for name in self._names:
            TOPIC_UNAVAILABLE.labels(name).set(0)

    def problem(self) -> str | None:
        """What is wrong with the topics or the connection, as text; None if nothing is."""
        return self._refusal or "; ".join(self._wrong.values()) or self._denied

    def note_denied(self, error: Exception | None) -> None:
        """Note the error by which the cluster denied a poll, or that a poll has succeeded."""
        denied = None if error is None else denied_by(error, self._cluster, self._group or "")
        if denied is not None and denied != self._denied:
            self._log.error(KafkaEvent.ACCESS_DENIED, reason=denied)
        self._denied = denied

    async def look(self, consumer: AIOKafkaConsumer, *, at_once: bool = False) -> Mapping[str, TopicState] | None:
        """Ask the cluster if a check is due; returns its topics, or None if there is no new information."""
        self._listen(consumer)
        now = time.monotonic()
        if now < self._due_at and not at_once:
            return None
        self._due_at = now + LOOK_AGAIN_S
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                there = await describe_topics(consumer._client, self._names)
        except (KafkaError, OSError, TimeoutError) as error:
            # While Kafka is unavailable the topics are unknown; other checks report the outage.
            self._log.debug(KafkaEvent.TOPICS_NOT_DESCRIBED, error=repr(error))
            self.kafka.fails(failed_with(error))
            await self.diagnose()
            return None
        self.kafka.works()
        self._refusal = None
        if not there.keys() & set(self._consumed) <= consumer._client.cluster.topics():
            # The topic exists again: the group's leader assigns it as soon as its own client knows.
            consumer._client.force_metadata_update()
        wrong = missing(self._names, there)
        if self._group is not None:
            self._unconsumed = self._not_consumed(there, await self._assigned(consumer, there, self._group))
            if self._unconsumed:
                _rejoin(consumer)
            wrong |= too_few(self._consumed, there, self._cluster.names.partitions)
            wrong |= {name: why for name, why in self._unconsumed.items() if name in there}
        self._note(wrong | denied_topics(self._cluster, there, reads=self._topics, writes=self._needed))
        if not self._wrong and self._unknown_since is None:
            self._due_at = now + LOOK_EVERY_S
        return there

    async def diagnose(self) -> None:
        """Find out whether the brokers refuse this client, at most once in 10 s. Raises nothing."""
        now = time.monotonic()
        if now < self._diagnose_at:
            return
        self._diagnose_at = now + LOOK_EVERY_S
        try:
            refused: CannotStart | None = await refusal(self._cluster)
        except (OSError, ValueError) as error:  # A file of the settings cannot be read any more.
            refused = CannotStart(f"{self._cluster.setting}: {error}")
        if refused is not None and self._refusal is None:
            self._log.error(KafkaEvent.ACCESS_DENIED, reason=str(refused))
        self._refusal = None if refused is None else str(refused)

    def _listen(self, consumer: AIOKafkaConsumer) -> None:
        if consumer is not self._watched:
            self._watched = consumer
            consumer._client.cluster.add_listener(self._on_metadata)

    def _on_metadata(self, cluster: Any) -> None:
        # The client updates its metadata at once when a broker does not know a partition. It knows no other topics than
        # those that it consumes.
        if not cluster.topics().issuperset(self._consumed):
            self._due_at = 0.0

    def _not_consumed(self, there: Mapping[str, TopicState], assigned: Partitions | None) -> dict[str, str]:
        """The topics that are not consumed; the previous result if that has been unknown only for a short time."""
        if assigned is not None:
            self._unknown_since = None
            return unconsumed(self._consumed, there, assigned)
        now = time.monotonic()
        if self._unknown_since is None:
            self._unknown_since = now
        if now - self._unknown_since < SHARING_LIMIT_S:
            return self._unconsumed
        why = f"is not consumed: for over {SHARING_LIMIT_S:.0f} s its group has not finished a rebalance"
        return {name: f"{name} {why}" for name in self._consumed}

    async def _assigned(
        self, consumer: AIOKafkaConsumer, there: Mapping[str, TopicState], group: str
    ) -> Partitions | None:
        """The partitions assigned to the group's members; None during a rebalance, or if they are unknown."""
        own: Partitions = consumer.assignment()
        consumed = (name for name in self._consumed if name in there)
        if {TopicPartition(name, number) for name in consumed for number in there[name].partitions} <= own:
            return own
        try:
            async with asyncio.timeout(GROUP_LIMIT_S):
                return await _described(consumer, own, group)
        except (KafkaError, OSError, TimeoutError) as error:
            # The state of the topics is valid all the same: without it nothing would be consumed.
            self._log.debug(KafkaEvent.GROUP_NOT_DESCRIBED, error=repr(error))
            return None

    def _note(self, wrong: dict[str, str]) -> None:
        for name in wrong.keys() | self._wrong.keys():
            TOPIC_UNAVAILABLE.labels(name).set(int(name in wrong))
            if wrong.get(name) != self._wrong.get(name):
                if name in wrong:
                    self._log.error(KafkaEvent.TOPIC_UNAVAILABLE, topic=name, reason=wrong[name])
                else:
                    self._log.info(KafkaEvent.TOPIC_AVAILABLE, topic=name)
        self._wrong = wrong


def _rejoin(consumer: AIOKafkaConsumer) -> None:
    """Join the group again: if this member is the leader, the group shares out its partitions anew.

    A leader that was restarted under its identity is not told that it is one, and does not watch the topics for new
    partitions. A join of any other member changes nothing. See KIP-814.
    """
    # Private API, as there is no public one.
    coordinator: Any = consumer._coordinator
    if coordinator._group_instance_id is not None:
        consumer._client.force_metadata_update()
        coordinator.request_rejoin()


async def _described(consumer: AIOKafkaConsumer, own: Partitions, group: str) -> Partitions | None:
    """The partitions of the group's members, from its coordinator; None during a rebalance. Raises KafkaError."""
    coordinator: Any = consumer._coordinator
    if coordinator.coordinator_id is None:
        return None
    try:
        request = DescribeGroupsRequest([group])
        answer: Any = await consumer._client.send(coordinator.coordinator_id, request)
    except IncompatibleBrokerVersion:
        return own  # The embedded cluster, whose groups have one member each.
    ((error, _, state, _, _, members, *_),) = answer.groups
    if error or state not in ("Stable", "Empty", "Dead"):
        return None
    return {place for *_, assignment in members for place in _decoded(assignment)}


def _decoded(assignment: bytes) -> Iterable[TopicPartition]:
    return ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions() if assignment else ()


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
