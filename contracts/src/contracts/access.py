"""What each service may do on the cluster, from the topic map: the least that it needs. Pure.

Kafka's operations are those of its authorizer: https://kafka.apache.org/documentation/#operations_resources_and_protocols
Neither static membership nor an idempotent producer needs more; before Kafka 3.0 the latter needs IdempotentWrite.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from contracts.topics import SERVICES, TOPICS, ServiceName, Topic, TopicNames

Operation = Literal["Read", "Write", "Describe", "Create"]
Resource = Literal["topic", "group"]

TOPIC_MAKER: Final = "topics"
"""Whoever runs `segue topics`, in the place of a service's name."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations on one topic or consumer group, by its exact name."""

    resource: Resource
    name: str
    """The name on the cluster."""
    operations: tuple[Operation, ...]


def read_by(service: ServiceName) -> tuple[Topic, ...]:
    """The topics that a service consumes or tails."""
    return tuple(topic for topic in TOPICS if service in topic.groups or service in topic.tails)


def written_by(service: ServiceName) -> tuple[Topic, ...]:
    """The topics that a service publishes to."""
    return tuple(topic for topic in TOPICS if service in topic.producers)


def grants(names: TopicNames) -> Mapping[str, tuple[Grant, ...]]:
    """What each service needs, by its name, and what `segue topics` needs, by TOPIC_MAKER."""
    creating = tuple(Grant("topic", names.of(topic), ("Create", "Describe")) for topic in TOPICS)
    return {service: tuple(_grants_of(service, names)) for service in SERVICES} | {TOPIC_MAKER: creating}


def _grants_of(service: ServiceName, names: TopicNames) -> Iterator[Grant]:
    reads, writes = read_by(service), written_by(service)
    for topic in TOPICS:
        needed: dict[Operation, bool] = {"Read": topic in reads, "Write": topic in writes}
        if any(needed.values()):
            operations = tuple(operation for operation, is_needed in needed.items() if is_needed)
            yield Grant("topic", names.of(topic), (*operations, "Describe"))
    if any(service in topic.groups for topic in TOPICS):
        yield Grant("group", names.group(service), ("Read", "Describe"))


def acl_commands(names: TopicNames, principal_prefix: str, servers: str) -> list[str]:
    """The command lines with which an administrator grants it all; a principal is the prefix with a service's name."""
    return [
        " ".join(
            [
                f"kafka-acls.sh --bootstrap-server {servers} --command-config admin.properties --add",
                f"--allow-principal {shlex.quote(f'User:{principal_prefix}{who}')}",
                *(f"--operation {operation}" for operation in grant.operations),
                f"--{grant.resource} {grant.name}",
            ]
        )
        for who, several in grants(names).items()
        for grant in several
    ]
