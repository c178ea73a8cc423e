"""Denied operations: what the cluster does not let this client do, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from chassis.kafka.metadata import TopicState
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import Topic

DENIED: Final[tuple[type[Exception], ...]] = (TopicAuthorizationFailedError, GroupAuthorizationFailedError)
"""Errors by which the cluster denies an operation."""


def denial(cluster: KafkaCluster, operations: str, resource: str) -> str:
    """That operations on a resource are denied, and what to do."""
    return (
        f"the cluster denies {cluster.principal} {operations} on {resource}; `segue topics --acls` prints what to grant"
    )


def denied_topics(
    cluster: KafkaCluster, there: Mapping[str, TopicState], *, reads: Iterable[Topic] = (), writes: Iterable[Topic] = ()
) -> dict[str, str]:
    """The topics of which the cluster denies reading or writing, by their names on it, with the problem as text."""
    needed: dict[str, list[str]] = {}
    for operation, topics in (("Read", reads), ("Write", writes)):
        for topic in topics:
            needed.setdefault(cluster.names.of(topic), []).append(operation)
    lacking = {
        name: " and ".join(each for each in operations if not may(each, there.get(name)))
        for name, operations in needed.items()
    }
    return {name: denial(cluster, each, f"topic {name}") for name, each in lacking.items() if each}


def may(operation: str, state: TopicState | None) -> bool:
    """Whether an operation on a topic is allowed, as far as the cluster tells."""
    return state is None or state.allowed is None or operation in state.allowed


def denied_by(error: Exception, cluster: KafkaCluster, group: str) -> str:
    """The problem that one of DENIED reports to a consumer of the group, as text."""
    if isinstance(error, GroupAuthorizationFailedError):
        return denial(cluster, "Read", f"group {group}")
    topics = next((each for each in error.args if isinstance(each, str)), "one that it consumes")
    return denial(cluster, "Read", f"topic {topics}")
