"""The topics of the cluster: checked at start, created if missing, and how safe their records are there.

Also the admin client for all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from chassis.errors import CannotStart, CannotStartYet
from chassis.kafka.access import denied_topics
from chassis.kafka.diagnosis import diagnose, refusal
from chassis.kafka.metadata import TopicState, describe_topics
from chassis.kafka.refusals import NotPermitted, RefusalLimit
from chassis.observability.log_events import KafkaEvent
from chassis.observability.logs import get_logger
from chassis.runtime.retry import retry
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import Topic

START_LIMIT_S = 30.0
PAUSE_S = 0.2
"""Pause between two attempts, in seconds: another broker may answer the next one."""
REFUSED_PAUSE_S = 1.0
"""Pause between two attempts of a client that is refused, in seconds."""
_MIN_IN_SYNC: Final = "min.insync.replicas"


async def require_topics(cluster: KafkaCluster, *, reads: Iterable[Topic] = (), writes: Iterable[Topic] = ()) -> None:
    """Check that a broker answers within 30 s, and that each topic exists and may be read or written.

    While the login is refused, or a topic is denied, it is checked again for up to 60 s; the log says so at once.
    Raises CannotStart, and CannotStartYet if no broker answers, naming the setting.
    """
    reads, writes = tuple(reads), tuple(writes)
    log = get_logger("chassis.topics")
    limit = RefusalLimit(lambda reason: log.warning(KafkaEvent.REFUSED_AT_START, reason=reason))
    await retry(lambda: _check(cluster, reads, writes), NotPermitted, pause_s=REFUSED_PAUSE_S, on_error=limit.note)


async def _check(cluster: KafkaCluster, reads: tuple[Topic, ...], writes: tuple[Topic, ...]) -> None:
    try:
        with anyio.fail_after(START_LIMIT_S):
            there = await retry(
                lambda: describe(cluster, (*reads, *writes)), (KafkaError, OSError, TimeoutError), pause_s=PAUSE_S
            )
    except (TimeoutError, OSError) as error:
        why = await diagnose(cluster)
        raise CannotStartYet(
            f"KAFKA_BOOTSTRAP_SERVERS: no broker answered at {cluster} within {START_LIMIT_S:.0f} s ({why})"
        ) from error
    if denied := denied_topics(cluster, there, reads=reads, writes=writes):
        raise NotPermitted(f"{cluster.setting}: {'; '.join(denied.values())}")
    if missing := {cluster.names.of(topic) for topic in (*reads, *writes)} - there.keys():
        lacking = ", ".join(sorted(missing))
        raise CannotStart(f"KAFKA_BOOTSTRAP_SERVERS: the cluster lacks {lacking}; run: segue topics")


async def describe(cluster: KafkaCluster, topics: Iterable[Topic]) -> Mapping[str, TopicState]:
    """Those of the topics that exist, by their names on the cluster. Raises what `admin` raises."""
    async with admin(cluster) as client:
        return await describe_topics(client._client, {cluster.names.of(topic) for topic in topics})


async def brokers_up(cluster: KafkaCluster) -> int:
    """How many brokers are up, as the cluster itself counts them. Raises what `admin` raises."""
    async with admin(cluster) as client:
        return len((await client.describe_cluster())["brokers"])


async def min_in_sync(cluster: KafkaCluster, names: Iterable[str]) -> dict[str, int]:
    """How many copies have to have a record before it is confirmed (`min.insync.replicas`), by the topics' names.

    A topic is left out if this client may not describe its configuration. Empty with the embedded cluster, which has
    none. Raises what `admin` raises.
    """
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, {_MIN_IN_SYNC: None}) for name in names]
    async with admin(cluster) as client:
        try:
            answers: list[Any] = list(await client.describe_configs(asked))
        except IncompatibleBrokerVersion:
            return {}
    return {
        name: int(value)
        for answer in answers
        for error, _, _, name, entries in answer.resources
        if for_code(error) is NoError
        for setting, value, *_ in entries
        if setting == _MIN_IN_SYNC
    }


@asynccontextmanager
async def admin(cluster: KafkaCluster) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client; waits until a broker answers. The caller sets the time limit.

    Raises Refused if no broker takes this client, LoginRefused if it is for the login.
    """
    client = await retry(lambda: _started(cluster), KafkaError, pause_s=PAUSE_S)
    try:
        yield client
    finally:
        await client.close()


async def _started(cluster: KafkaCluster) -> AIOKafkaAdminClient:
    client = AIOKafkaAdminClient(request_timeout_ms=5_000, **cluster.client_options())
    try:
        await client.start()
    except KafkaError as error:
        await client.close()
        if (refused := await refusal(cluster)) is not None:
            raise refused from error
        raise
    except BaseException:
        await client.close()
        raise
    return client


async def create_topics(cluster: KafkaCluster, topics: Iterable[Topic], replication: int) -> dict[str, str]:
    """Create missing topics.

    Returns "created", "exists", or the name of the cluster's error, by the topics' names on the cluster.
    """
    names = cluster.names
    async with admin(cluster) as client:
        there = set(await client.list_topics())
        outcome = {names.of(topic): "exists" for topic in topics if names.of(topic) in there}
        missing = [
            NewTopic(names.of(topic), names.partitions, replication, topic_configs=topic.config_for(replication))
            for topic in topics
            if names.of(topic) not in there
        ]
        if not missing:
            return outcome
        response = await client.create_topics(missing)
    for answer in response.to_object()["topic_errors"]:
        error = for_code(answer["error_code"])
        taken = {NoError: "created", TopicAlreadyExistsError: "exists"}
        outcome[answer["topic"]] = taken.get(error, error.__name__)
    return outcome
