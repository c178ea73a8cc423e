"""The map: every topic, what it carries, who writes it, who reads it. All that names a topic reads it here."""

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
"""A service by its name, which is also that of its consumer group and of its folder in `services/`."""
ADAPTERS: Final[tuple[ServiceName, ...]] = tuple(spec.service for spec in PROVIDERS.values())
SERVICES: Final[tuple[ServiceName, ...]] = ("gateway", "orchestrator", *ADAPTERS, "log-sink")

DAY_S: Final = 86_400
PARTITIONS: Final = 6
"""The same on every topic, so that a job's key lies in the same partition everywhere."""


MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Room for a provider's largest webhook, and for a dead letter of it with its headers."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the map."""

    name: str
    carries: tuple[type[Message], ...]
    producers: tuple[ServiceName, ...]
    groups: tuple[ServiceName, ...]
    """Services that consume it in a consumer group of their own name: each message is handled by one replica."""
    tails: tuple[ServiceName, ...] = ()
    """Services of which every replica reads all of it, without a group."""
    retention_s: int = 7 * DAY_S
    """Longer than the worst outage: Kafka is the buffer while a consumer is away."""
    log_append_time: bool = False
    """Records carry the broker's time of arrival rather than the producer's time of sending."""
    purpose: str = ""

    def config_for(self, replication: int) -> dict[str, str]:
        """The topic's settings at the broker, as Kafka names them, for so many replicas."""
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
    purpose="what clients asked for",
)
COMMANDS: Final[dict[str, Topic]] = {
    name: Topic(
        spec.command_topic,
        (RunAttempt, CancelAttempt, ResolveAttempt, CollectAttempt),
        producers=("orchestrator",),
        groups=(spec.service,),
        purpose=f"what {spec.service} has to do",
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
    purpose="what happened to attempts",
)
CALLBACKS: Final = Topic(
    "segue.callbacks",
    (CallbackReceived,),
    producers=("gateway",),
    groups=ADAPTERS,
    purpose="providers' webhooks, verified and raw",
)
JOBS: Final = Topic(
    "segue.jobs",
    (JobAccepted, JobStarted, JobRerouted, JobSucceeded, JobFailed, JobCancelled),
    producers=("orchestrator",),
    groups=("log-sink",),
    tails=("gateway",),
    purpose="what became of jobs; other people's consumers read it too",
)
DEAD_LETTERS: Final = Topic(
    "segue.dead-letters",
    (),
    producers=SERVICES,
    groups=(),
    retention_s=30 * DAY_S,
    purpose="what could not be processed, whole, with why",
)

TOPICS: Final[tuple[Topic, ...]] = (REQUESTS, *COMMANDS.values(), ATTEMPTS, CALLBACKS, JOBS, DEAD_LETTERS)
MESSAGE_TYPES: Final[dict[str, type[Message]]] = {kind.TYPE: kind for topic in TOPICS for kind in topic.carries}


def topic_for(message: Message) -> Topic:
    """Where a message is published."""
    if isinstance(message, RunAttempt | CancelAttempt | ResolveAttempt | CollectAttempt):
        return COMMANDS[message.provider]
    return _TOPIC_BY_TYPE[message.TYPE]


_TOPIC_BY_TYPE: Final[dict[str, Topic]] = {
    kind.TYPE: topic for topic in TOPICS if topic not in COMMANDS.values() for kind in topic.carries
}
