"""The topic map as a table, and its topics on a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from contracts.topics import DAY_S, PARTITIONS, TOPICS

if TYPE_CHECKING:
    from rich.table import Table

LIMIT_S: Final = 10.0
_MOST_REPLICAS: Final = 3


class BrokerAway(Exception):
    """No broker answered, or it refused to create a topic; one line that names the setting."""


def map_table(outcome: Mapping[str, str] | None = None) -> Table:
    """The map as a table, with the result for each topic if a broker was asked."""
    from rich.table import Table

    table = Table(title=f"Topics, {PARTITIONS} partitions each, keyed by job_id", title_justify="left")
    for column in ("topic", "carries", "from", "to", "retention"):
        table.add_column(column, overflow="fold")
    if outcome is not None:
        table.add_column("on the broker")
    for topic in TOPICS:
        carries = "\n".join(kind.TYPE for kind in topic.carries) or topic.purpose
        readers = [*topic.groups, *(f"{name} (tail)" for name in topic.tails)]
        row = [topic.name, carries, "\n".join(topic.producers), "\n".join(readers) or "segue dlq"]
        row.append(f"{topic.retention_s // DAY_S} days")
        table.add_row(*row, *([outcome.get(topic.name, "")] if outcome is not None else []), end_section=True)
    return table


async def ensure_topics(servers: str, replication: int | None = None) -> dict[str, str]:
    """Create missing topics; returns "exists" or "created" by topic. Raises BrokerAway.

    `replication` None: as many replicas as there are brokers, at most three.
    """
    from aiokafka.errors import KafkaError

    from chassis.kafka.topics import admin, create_topics

    servers = usable_servers(servers)
    try:
        async with asyncio.timeout(LIMIT_S):
            async with admin(servers) as client:
                present = set(await client.list_topics())
                brokers = len((await client.describe_cluster())["brokers"])
            missing = [topic for topic in TOPICS if topic.name not in present]
            outcome = {topic.name: "exists" for topic in TOPICS}
            if missing:
                outcome |= await create_topics(servers, missing, replication or min(brokers, _MOST_REPLICAS))
    except (KafkaError, OSError, TimeoutError) as error:
        raise await _away(servers, LIMIT_S) from error
    if refused := {name: what for name, what in outcome.items() if what not in ("exists", "created")}:
        said = ", ".join(f"{name}: {what}" for name, what in refused.items())
        raise BrokerAway(f"KAFKA_BOOTSTRAP_SERVERS: {servers} did not make {said}")
    return outcome


async def present_topics(servers: str, limit_s: float) -> set[str]:
    """The names of the cluster's topics. Raises BrokerAway."""
    from aiokafka.errors import KafkaError

    from chassis.kafka.topics import admin

    servers = usable_servers(servers)
    try:
        async with asyncio.timeout(limit_s), admin(servers) as client:
            return set(await client.list_topics())
    except (KafkaError, OSError, TimeoutError) as error:
        raise await _away(servers, limit_s) from error


def usable_servers(text: str) -> str:
    """The addresses in the form that the client expects. Raises BrokerAway if they are invalid."""
    from chassis.settings.kafka_servers import read_servers

    try:
        return ",".join(read_servers(text))
    except ValueError as error:
        raise BrokerAway(f"KAFKA_BOOTSTRAP_SERVERS: {error}") from None


async def _away(servers: str, within_s: float) -> BrokerAway:
    from chassis.settings.kafka_servers import diagnose_servers

    why = await diagnose_servers(servers.split(","))
    return BrokerAway(f"KAFKA_BOOTSTRAP_SERVERS: no broker answered at {servers} within {within_s:.0f} s ({why})")


async def await_topics(servers: str, within_s: float) -> None:
    """Wait until every topic of the map is on the broker. Raises BrokerAway if one is not within that many seconds."""
    from chassis.runtime.retry import retry

    usable_servers(servers)

    async def found() -> None:
        present = await present_topics(servers, LIMIT_S)
        if missing := [topic.name for topic in TOPICS if topic.name not in present]:
            raise BrokerAway(
                f"KAFKA_BOOTSTRAP_SERVERS: {servers} lacks {', '.join(missing)}; `segue topics` makes them"
            )

    await retry(found, BrokerAway, pause_s=1.0, within_s=within_s)


def topics(*, create: bool | None, replication: int | None, wait_s: float | None) -> int:
    """Print the map, and create missing topics if `create` is set, or wait for them; returns the exit code."""
    from pathlib import Path

    from chassis.errors import EXIT_SETTINGS
    from segue_cli.stack.environment import given
    from segue_cli.views.console import console

    out, failed = console(), console(stderr=True)
    servers = given(Path.cwd()).get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers and (create or wait_s is not None):
        failed.print("[red]KAFKA_BOOTSTRAP_SERVERS is not set: there is no broker to have the topics on.[/]")
        return EXIT_SETTINGS
    if not servers or (create is False and wait_s is None):
        out.print(map_table())
        return 0
    try:
        if wait_s is not None:
            asyncio.run(await_topics(servers, wait_s))
            outcome = {topic.name: "exists" for topic in TOPICS}
        else:
            outcome = asyncio.run(ensure_topics(servers, replication))
    except BrokerAway as error:
        out.print(map_table())
        failed.print(str(error), style="red", markup=False, soft_wrap=True)
        return EXIT_SETTINGS
    out.print(map_table(outcome))
    return 0
