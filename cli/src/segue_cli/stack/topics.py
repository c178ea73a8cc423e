"""The topic map as a table, and its topics on a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from chassis.errors import EXIT_SETTINGS, EXIT_TEMPORARY
from contracts.access import acl_commands
from contracts.topics import DAY_S, TOPICS, TopicNames

if TYPE_CHECKING:
    from rich.table import Table

    from chassis.kafka.metadata import TopicState
    from chassis.settings.kafka.cluster import KafkaCluster

T = TypeVar("T")
LIMIT_S: Final = 10.0
COPIES: Final = 3
"""Copies of each record on a cluster with as many brokers: two disks may be lost."""
ADD_COPIES: Final = "docs/operations/kafka.md says how to add copies with kafka-reassign-partitions.sh"
_NOWHERE: Final = "127.0.0.1:9092"
"""In the place of the address of the brokers where it is not needed."""


class BrokerAway(Exception):
    """No broker answered, or it refused this client or a topic; one line that names the setting."""

    exit_code: ClassVar[int] = EXIT_SETTINGS


class Refusal(BrokerAway):
    """The brokers refuse this client, or let it see no topic."""


class NotYet(BrokerAway):
    """No broker answered, too few are up, or the topics that are waited for are not there yet."""

    exit_code = EXIT_TEMPORARY


def cluster_of(environ: Mapping[str, str]) -> KafkaCluster:
    """The cluster that the settings name. Raises BrokerAway if they are wrong."""
    from chassis.settings.kafka.settings import KafkaSettings
    from chassis.settings.service import WrongSettings, settings_of

    try:
        return settings_of(KafkaSettings, environ).kafka
    except WrongSettings as error:
        raise BrokerAway(str(error)) from None


def map_table(names: TopicNames, outcome: Mapping[str, str] | None = None) -> Table:
    """The map as a table, with the result for each topic if a broker was asked."""
    from rich.table import Table

    table = Table(title=f"Topics, {names.partitions} partitions each, keyed by job_id", title_justify="left")
    for column in ("topic", "carries", "from", "to", "retention"):
        table.add_column(column, overflow="fold")
    if outcome is not None:
        table.add_column("on the broker")
    for topic in TOPICS:
        carries = "\n".join(kind.TYPE for kind in topic.carries) or topic.purpose
        readers = [*topic.groups, *(f"{name} (tail)" for name in topic.tails)]
        row = [names.of(topic), carries, "\n".join(topic.producers), "\n".join(readers) or "segue dlq"]
        row.append(f"{topic.retention_s // DAY_S} days")
        table.add_row(*row, *([outcome.get(names.of(topic), "")] if outcome is not None else []), end_section=True)
    return table


async def ensure_topics(cluster: KafkaCluster, replication: int | None = None) -> dict[str, str]:
    """Create missing topics; returns "exists" or "created" by the topic's name on the cluster. Raises BrokerAway.

    `replication` None: as many copies as there are brokers up, at most three. Otherwise raises NotYet, and creates
    nothing, if the cluster has fewer brokers.
    """
    from chassis.kafka.topics import brokers_up, create_topics

    async def made() -> tuple[int, dict[str, str]]:
        brokers = await brokers_up(cluster)
        return brokers, await create_topics(cluster, TOPICS, replication or min(brokers, COPIES))

    brokers, outcome = await asked(cluster, LIMIT_S, made)
    refused = {name: what for name, what in outcome.items() if what not in ("exists", "created")}
    if replication is not None and "InvalidReplicationFactorError" in refused.values():
        up = f"{brokers} {'broker' if brokers == 1 else 'brokers'} up"
        raise NotYet(
            f"KAFKA_BOOTSTRAP_SERVERS: {cluster} has {up}, too few for {replication} copies of each topic, and no topic"
            " was created: start the other brokers and repeat, or give a smaller --replication"
        )
    if refused:
        said = ", ".join(f"{name}: {what}" for name, what in refused.items())
        raise BrokerAway(f"KAFKA_BOOTSTRAP_SERVERS: {cluster} did not make {said}{_remedy(cluster, refused.values())}")
    return outcome


def _remedy(cluster: KafkaCluster, errors: Collection[str]) -> str:
    if not any("Authorization" in error for error in errors):
        return ""
    return f"; {cluster.principal} needs Create and Describe on them: `segue topics --acls` prints what to grant"


async def topics_there(cluster: KafkaCluster, limit_s: float) -> Mapping[str, TopicState]:
    """The topics of the map that the cluster has, by their names on it. Raises BrokerAway."""
    from chassis.kafka.topics import describe

    return await asked(cluster, limit_s, lambda: describe(cluster, TOPICS))


async def asked(cluster: KafkaCluster, limit_s: float, work: Callable[[], Awaitable[T]]) -> T:
    """The result of questions to the cluster, within `limit_s` seconds. Raises Refusal and NotYet."""
    from aiokafka.errors import KafkaError

    from chassis.errors import CannotStart

    try:
        async with asyncio.timeout(limit_s):
            return await work()
    except CannotStart as error:
        raise Refusal(str(error)) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise await _away(cluster, limit_s) from error


def sorted_out(names: TopicNames, there: Mapping[str, TopicState]) -> tuple[list[str], list[str]]:
    """The names of the topics that are missing, and of those that this client may not see."""
    every = [names.of(topic) for topic in TOPICS]
    hidden = [name for name in every if name in there and not there[name].partitions]
    return [name for name in every if name not in there], hidden


def too_few_copies(there: Mapping[str, TopicState], wanted: int) -> str | None:
    """The topics with fewer copies than `wanted` and what that means, in one line; None if there are none.

    A topic whose copies are unknown counts as one that has them.
    """
    few = {name: state.copies for name, state in sorted(there.items()) if 0 < state.copies < wanted}
    if not few:
        return None
    named = ", ".join(f"{name} ({copies})" for name, copies in few.items())
    return f"fewer than {wanted} copies: {named}: if a broker's disk is lost, jobs may be lost with it"


async def _away(cluster: KafkaCluster, within_s: float) -> NotYet:
    from chassis.kafka.diagnosis import diagnose

    why = await diagnose(cluster)
    return NotYet(f"KAFKA_BOOTSTRAP_SERVERS: no broker answered at {cluster} within {within_s:.0f} s ({why})")


async def await_topics(cluster: KafkaCluster, within_s: float, tell: Callable[[str], None]) -> None:
    """Wait until every topic of the map that this client may see is on the broker.

    Raises NotYet if one is not within `within_s` seconds, and Refusal if nothing but refusals was heard for 60 s, which
    `tell` is called with at once, as one line.
    """
    from chassis.kafka.refusals import REFUSED_LIMIT_S, RefusalLimit
    from chassis.runtime.retry import retry

    lasting = f"trying for {min(within_s, REFUSED_LIMIT_S):.0f} s"
    reason = "as brokers that are just starting may not know their users yet"
    limit = RefusalLimit(lambda refusal: tell(f"{refusal}; {lasting}, {reason}"), Refusal)

    async def found() -> None:
        missing, hidden = sorted_out(cluster.names, await topics_there(cluster, LIMIT_S))
        if missing:
            raise NotYet(f"KAFKA_BOOTSTRAP_SERVERS: {cluster} lacks {', '.join(missing)}; `segue topics` makes them")
        if len(hidden) == len(TOPICS):
            raise Refusal(f"{cluster.setting}: {cluster.principal} may not see any topic of Segue's at {cluster}")

    await retry(found, BrokerAway, pause_s=1.0, within_s=within_s, on_error=limit.note)


def topics(*, create: bool | None, replication: int | None, wait_s: float | None, acls: str | None) -> int:
    """Print the map, and create missing topics if `create` is set, or wait for them; returns the exit code.

    With `acls`, a prefix of principals, only print the commands that grant each service what it needs.
    """
    from pathlib import Path

    from segue_cli.stack.environment import given
    from segue_cli.views.console import console

    out, failed = console(), console(stderr=True)

    def note(line: str) -> None:
        failed.print(line, style="yellow", markup=False, soft_wrap=True)

    environ = given(Path.cwd())
    servers = environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers and (create or wait_s is not None):
        failed.print("[red]KAFKA_BOOTSTRAP_SERVERS is not set: there is no broker to have the topics on.[/]")
        return EXIT_SETTINGS
    try:
        cluster = cluster_of({"KAFKA_BOOTSTRAP_SERVERS": _NOWHERE, **environ})
    except BrokerAway as error:
        failed.print(str(error), style="red", markup=False, soft_wrap=True)
        return EXIT_SETTINGS
    if acls is not None:
        print(*acl_commands(cluster.names, acls, servers or "HOST:PORT"), sep="\n")
        return 0
    if not servers or (create is False and wait_s is None):
        out.print(map_table(cluster.names))
        return 0
    try:
        found = asyncio.run(_on_the_broker(cluster, replication, wait_s, note))
    except BrokerAway as error:
        out.print(map_table(cluster.names))
        failed.print(str(error), style="red", markup=False, soft_wrap=True)
        return error.exit_code
    out.print(map_table(cluster.names, found.outcome))
    for line in found.notes:
        note(line)
    return 0


@dataclass(frozen=True, slots=True)
class _Found:
    outcome: Mapping[str, str]
    """What is to be said of each topic, by its name on the cluster."""
    notes: tuple[str, ...]
    """What is to be said of the copies, each in one line."""


async def _on_the_broker(
    cluster: KafkaCluster, replication: int | None, wait_s: float | None, tell: Callable[[str], None]
) -> _Found:
    """Create the topics, or wait for them, and call `tell` with what is refused meanwhile. Raises BrokerAway."""
    from chassis.kafka.topic_watch import too_few
    from chassis.kafka.topics import brokers_up

    if wait_s is not None:
        await await_topics(cluster, wait_s, tell)
        outcome = {cluster.names.of(topic): "exists" for topic in TOPICS}
    else:
        outcome = await ensure_topics(cluster, replication)
    there = await topics_there(cluster, LIMIT_S)
    wanted = replication or min(await asked(cluster, LIMIT_S, lambda: brokers_up(cluster)), COPIES)
    _, hidden = sorted_out(cluster.names, there)
    told = {name: f"{what}{_copies(there.get(name))}" for name, what in outcome.items()}
    told |= dict.fromkeys(hidden, "not to be seen") | too_few(outcome, there, cluster.names.partitions)
    return _Found(told, tuple(_notes(outcome, there, replication, wanted)))


def _notes(
    outcome: Mapping[str, str], there: Mapping[str, TopicState], asked_for: int | None, wanted: int
) -> Iterator[str]:
    if few := too_few_copies(there, wanted):
        yield f"{few}; {ADD_COPIES}"
    if asked_for is None and wanted < COPIES and "created" in outcome.values():
        made = "1 copy" if wanted == 1 else f"{wanted} copies"
        yield f"created with {made} of each record, one for each broker that is up: in production, give --replication 3"


def _copies(state: TopicState | None) -> str:
    copies = 0 if state is None else state.copies
    return f", {copies} {'copy' if copies == 1 else 'copies'}" if copies else ""
