"""The topic map: every topic with its message types, its producers and its consumers. It is the only such list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contracts.messages.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitted,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.callbacks import CallbackReceived
from contracts.messages.commands import CancelAttempt, CollectAttempt, ResolveAttempt, RunAttempt
from contracts.messages.jobs import JobAccepted, JobCancelled, JobFailed, JobRerouted, JobStarted, JobSucceeded
from contracts.messages.requests import CancelRequested, CollectionRequested, JobRequested, ResolutionRequested
from contracts.providers.registry import PROVIDERS

ServiceName = str
"""The name of a service, which is also the name of its consumer group and of its folder in `services/`."""
ADAPTERS: Final[tuple[ServiceName, ...]] = tuple(spec.service for spec in PROVIDERS.values())
SERVICES: Final[tuple[ServiceName, ...]] = ("gateway", "orchestrator", *ADAPTERS, "log-sink")

DAY_S: Final = 86_400
PARTITIONS: Final = 6
"""The default. The number is the same on every topic, so that the messages of a job are in the same partition of each.
"""

MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Enough for a provider's largest webhook, and for a dead letter of it with its headers."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the map."""

    name: str
    carries: tuple[type[Message], ...]
    producers: tuple[ServiceName, ...]
    groups: tuple[ServiceName, ...]
    """Services that consume it in a consumer group of their name: each message is processed by one replica."""
    tails: tuple[ServiceName, ...] = ()
    """Services of which every replica reads the whole topic, without a consumer group."""
    retention_s: int = 7 * DAY_S
    """Longer than the longest outage to be survived: while a consumer is down, Kafka keeps its messages."""
    log_append_time: bool = False
    """Records have the broker's time of arrival, not the producer's time of sending."""
    purpose: str = ""

    def config_for(self, replication: int) -> dict[str, str]:
        """The topic's configuration, by Kafka's names, for a replication factor."""
        return {
            "retention.ms": str(self.retention_s * 1000),
            "min.insync.replicas": str(max(1, replication - 1)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime" if self.log_append_time else "CreateTime",
        }


REQUESTS: Final = Topic(
    "segue.requests",
    (JobRequested, CancelRequested, ResolutionRequested, CollectionRequested),
    producers=("gateway",),
    groups=("orchestrator", "log-sink"),
    tails=("gateway",),
    log_append_time=True,
    purpose="requests of clients and operators",
)
COMMANDS: Final[dict[str, Topic]] = {
    name: Topic(
        spec.command_topic,
        (RunAttempt, CancelAttempt, ResolveAttempt, CollectAttempt),
        producers=("orchestrator",),
        groups=(spec.service,),
        purpose=f"commands to {spec.service}",
    )
    for name, spec in PROVIDERS.items()
}
ATTEMPTS: Final = Topic(
    "segue.attempts",
    (
        AttemptSubmitting,
        AttemptSubmitted,
        AttemptProgressed,
        AttemptAmbiguous,
        AttemptSucceeded,
        AttemptFailed,
        AttemptCancelled,
    ),
    producers=ADAPTERS,
    groups=("orchestrator", "log-sink"),
    purpose="events of attempts",
)
CALLBACKS: Final = Topic(
    "segue.callbacks",
    (CallbackReceived,),
    producers=("gateway",),
    groups=ADAPTERS,
    purpose="verified callbacks of providers, as received",
)
JOBS: Final = Topic(
    "segue.jobs",
    (JobAccepted, JobStarted, JobRerouted, JobSucceeded, JobFailed, JobCancelled),
    producers=("orchestrator",),
    groups=("log-sink",),
    tails=("gateway",),
    purpose="events of jobs, also for consumers outside of Segue",
)
DEAD_LETTERS: Final = Topic(
    "segue.dead-letters",
    (),
    producers=SERVICES,
    groups=(),
    retention_s=30 * DAY_S,
    purpose="messages that could not be processed, unchanged, with the reason",
)


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names that topics and consumer groups have on a cluster, and how many partitions its topics have.

    Several systems share a cluster by different prefixes. A message has its topic's name in the map until it is
    published; a place in a log, such as a position or the source of a dead letter, has the name on the cluster.
    """

    prefix: str = ""
    """Before the name of every topic and of every consumer group."""
    partitions: int = PARTITIONS

    def of(self, topic: Topic | str) -> str:
        """The name on the cluster of a topic, or of a topic's name in the map."""
        return self.prefix + (topic if isinstance(topic, str) else topic.name)

    def group(self, service: ServiceName) -> str:
        """The name of a service's consumer group."""
        return self.prefix + service


TOPICS: Final[tuple[Topic, ...]] = (REQUESTS, *COMMANDS.values(), ATTEMPTS, CALLBACKS, JOBS, DEAD_LETTERS)
MESSAGE_TYPES: Final[dict[str, type[Message]]] = {kind.TYPE: kind for topic in TOPICS for kind in topic.carries}


def topic_for(message: Message) -> Topic:
    """The topic to which a message is published."""
    if isinstance(message, RunAttempt | CancelAttempt | ResolveAttempt | CollectAttempt):
        return COMMANDS[message.provider]
    return _TOPIC_BY_TYPE[message.TYPE]


_TOPIC_BY_TYPE: Final[dict[str, Topic]] = {
    kind.TYPE: topic for topic in TOPICS if topic not in COMMANDS.values() for kind in topic.carries
}
