"""Dead letters' records, published again: those of a job in their order, and many jobs at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from aiokafka.errors import KafkaError

from chassis.delivery.letters import Letter, replayed
from chassis.errors import in_one_line, root_cause
from chassis.kafka.broker import SegueBroker, make_broker, publish
from chassis.settings.kafka.cluster import KafkaCluster

AT_ONCE: Final = 50
"""Jobs whose records are published at a time."""
STOP_LIMIT_S: Final = 5.0
"""Seconds for the connections to be closed in; a broker that does not answer would hold the command for ever."""


class Replay:
    """The records of letters on their way to their topics."""

    def __init__(self, cluster: KafkaCluster, *, runs: bool) -> None:
        """`runs`: also commands that may run an attempt are published."""
        self._cluster = cluster
        self._runs = runs
        self.published = 0
        """How many records all in-sync replicas have."""
        self.left: list[tuple[Letter, str]] = []
        """The letters whose records cannot be published, and why."""

    async def publish(self, letters: Sequence[Letter], tell: Callable[[], None]) -> None:
        """Publish the records; `tell` is called after each. Raises OSError and TimeoutError."""
        jobs: dict[bytes | None, list[Letter]] = {}
        for letter in letters:
            jobs.setdefault(letter.key, []).append(letter)
        broker = make_broker(self._cluster, "dlq")
        await broker.connect()
        rest = iter(jobs.values())
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(AT_ONCE, len(jobs))):
                    tasks.create_task(self._jobs(broker, rest, tell))
        except ExceptionGroup as group:
            raise root_cause(group) from group
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_LIMIT_S):
                    await broker.stop()

    async def _jobs(self, broker: SegueBroker, rest: Iterator[list[Letter]], tell: Callable[[], None]) -> None:
        for letters in rest:
            for letter in letters:
                # One after the other, so that the records of a job keep their order also where one fails.
                await self._one(broker, letter)
                tell()

    async def _one(self, broker: SegueBroker, letter: Letter) -> None:
        record = replayed(letter, self._cluster.names, runs=self._runs)
        if isinstance(record, str):
            self.left.append((letter, record))
            return
        try:
            await (await publish(broker, record))
        except KafkaError as error:
            self.left.append((letter, in_one_line(error)))
        else:
            self.published += 1
