"""The cluster's metadata of topics: their ids, partitions and copies.

aiokafka 0.14 uses Metadata requests up to version 5. The id of a topic, which distinguishes it from an earlier one of
the same name, needs version 10: https://cwiki.apache.org/confluence/display/KAFKA/KIP-516%3A+Topic+Identifiers
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Final

import aiokafka.client
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    NodeNotReadyError,
    NoError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_TAGS: Final = ("tags", TaggedFields)
OPERATIONS: Final = {"Read": 3, "Write": 4}
"""Operations of Kafka's authorizer that Segue needs on topics, with their codes, which are bits in an answer."""
_NOT_TOLD: Final = -(2**31)


@dataclass(frozen=True, slots=True)
class TopicState:
    """The current state of a topic."""

    id: str
    """Empty if the cluster has no topic ids. Changes when the topic is deleted and created again."""
    partitions: frozenset[int]
    allowed: frozenset[str] | None = None
    """What this client may do with it, of OPERATIONS; None if the cluster does not tell."""
    copies: int = 0
    """How many brokers store its records, of the partition with the fewest, whether they are up or not; 0 if unknown.
    """


def never_create_topics() -> None:
    """Have the clients of this process request topics without creating them.

    aiokafka leaves the request's allow_auto_topic_creation on. On a cluster with auto.create.topics.enable (the
    default), its consumers would create a deleted topic again at once, with one partition.
    """
    setattr(aiokafka.client, "MetadataRequest", partial(MetadataRequest, allow_auto_topic_creation=False))  # noqa: B010


async def describe_topics(client: AIOKafkaClient, names: Iterable[str]) -> Mapping[str, TopicState]:
    """Those of the topics that exist, by name. Sends one request, to any broker. Raises KafkaError.

    A topic that this client may not see counts as one without partitions, with which nothing is allowed. A cluster
    before Kafka 2.8 has no topic ids; they are empty then, and the copies are unknown.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    try:
        response: Any = await client.send(node, _TopicsRequest(names))
    except NotImplementedError:
        await client.force_metadata_update()
        known = {name: client.cluster.partitions_for_topic(name) for name in names}
        return {name: TopicState("", frozenset(numbers)) for name, numbers in known.items() if numbers}
    found: dict[str, TopicState] = {}
    for code, name, topic_id, _internal, partitions, bits, _ in response.topics:
        error = for_code(code)
        if error is NoError:
            numbers = frozenset(number for _, number, *_ in partitions)
            copies = min((len(replicas) for _, _, _, _, replicas, *_ in partitions), default=0)
            found[name] = TopicState(str(topic_id), numbers, _allowed(bits), copies)
        elif error is TopicAuthorizationFailedError:
            found[name] = TopicState("", frozenset(), frozenset())
        elif error is not UnknownTopicOrPartitionError:
            raise error(name)
    return found


def _allowed(bits: int) -> frozenset[str] | None:
    if bits == _NOT_TOLD:
        return None
    return frozenset(operation for operation, code in OPERATIONS.items() if bits >> code & 1)


class _Uuid(AbstractType[uuid.UUID]):
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class _TopicsResponseV10(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                _TAGS,
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition_index", Int32),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("replica_nodes", CompactArray(Int32)),
                        ("isr_nodes", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("topic_authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _TopicsRequestV10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _TopicsResponseV10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _TopicsRequest(Request[_TopicsRequestV10]):
    API_KEY = 3

    def __init__(self, names: Iterable[str]) -> None:
        self._topics: list[tuple[uuid.UUID, str, dict[int, bytes]]] = [(uuid.UUID(int=0), name, {}) for name in names]

    def build(self, request_struct_class: type[_TopicsRequestV10]) -> _TopicsRequestV10:
        return request_struct_class(self._topics, False, False, True, {})
