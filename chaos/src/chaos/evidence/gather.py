"""Reads the evidence: topics, bills and tables. Topics and bills are read incrementally."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from chaos.cluster.system import System
from chaos.cluster.topics import behind, partitions_of, places_in
from chaos.evidence.by_job import token_in
from chaos.evidence.model import ClientAnswer, DeadLetter, Event, Evidence, Tables, UnexpectedEnd, Window
from chassis.kafka.topics import describe
from chassis.observability.log_events import RuntimeEvent
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.envelope import Envelope, Undecodable, decode
from contracts.topics import ATTEMPTS, DEAD_LETTERS, JOBS, REQUESTS, TOPICS, Topic

READ: Final = (REQUESTS, ATTEMPTS, JOBS)
QUIET_WITHIN_S: Final = 60.0
POLL_EVERY_S: Final = 0.5
_OVER: Final = "('succeeded', 'failed', 'cancelled')"
UNFINISHED: Final = f"""
    SELECT 'the orchestrator''s job ' || job_id || ' is ' || state AS what
        FROM orchestrator.jobs WHERE state NOT IN {_OVER}
    UNION ALL SELECT 'fal''s attempt ' || attempt_id || ' is ' || state
        FROM fal_adapter.attempts WHERE state NOT IN {_OVER}
    UNION ALL SELECT 'Replicate''s attempt ' || attempt_id || ' is ' || state
        FROM replicate_adapter.attempts WHERE state NOT IN {_OVER}
    UNION ALL SELECT 'unpublished by the orchestrator: ' || topic FROM orchestrator.outbox
    UNION ALL SELECT 'unpublished by the fal-adapter: ' || topic FROM fal_adapter.outbox
    UNION ALL SELECT 'unpublished by the replicate-adapter: ' || topic FROM replicate_adapter.outbox
    UNION ALL SELECT 'in the log-sink''s quarantine: ' || topic || '/' || kafka_offset || ': ' || error
        FROM log_sink.quarantine
"""  # noqa: S608 - a constant of this module
_QUERIES: Final = {
    "jobs": "SELECT job_id, status, version, provider, attempt_id, metadata FROM log_sink.v_jobs",
    "attempts": "SELECT attempt_id, job_id, provider, state, version, provider_ref FROM log_sink.v_attempts",
    "artifacts": "SELECT job_id, attempt_id, name, sha256, size_bytes FROM log_sink.v_artifacts",
    "log": "SELECT event_id FROM log_sink.v_job_log",
    "ledger": """
        SELECT 'fal' AS provider, attempt_id, job_id, state, version, provider_ref FROM fal_adapter.attempts
        UNION ALL SELECT 'replicate', attempt_id, job_id, state, version, provider_ref FROM replicate_adapter.attempts
    """,
    "ordered": "SELECT attempt_id, job_id, provider, live FROM orchestrator.attempts",
    "decided": "SELECT job_id, state, version FROM orchestrator.jobs",
}


class Gatherer:
    """The evidence read so far, and the positions."""

    def __init__(self, system: System, folder: Path) -> None:
        self.events: list[Event] = []
        self.dead_letters: list[DeadLetter] = []
        self.bills: list[dict[str, Any]] = []
        self.unexpected_ends: list[UnexpectedEnd] = []
        self._system, self._folder = system, folder
        self._positions: dict[tuple[str, int], int] = {}
        self._bills_read = 0
        self._logs_read: Counter[str] = Counter()

    async def wait_until_idle(self, within_s: float = QUIET_WITHIN_S) -> list[str]:
        """Wait until no work is left and every group has read everything; returns what is left at the deadline."""
        deadline = time.monotonic() + within_s
        while True:
            left = await self._left()
            if not left or time.monotonic() > deadline:
                return left
            await asyncio.sleep(POLL_EVERY_S)

    async def read_all(self, answers: Sequence[ClientAnswer], windows: Sequence[Window]) -> Evidence:
        """All evidence from the beginning."""
        ends = await self.read_topics()
        self._read_bills()
        self._read_logs()
        tables = await self._tables()
        of_the_sink = {(place.topic, place.partition): end for place, end in ends.items()}
        return Evidence(
            answers, self.bills, self.events, tables, of_the_sink, self.dead_letters, windows, self.unexpected_ends
        )

    async def _left(self) -> list[str]:
        connection = await asyncpg.connect(self._system.env["DATABASE_URL"])
        try:
            left = [row["what"] for row in await connection.fetch(UNFINISHED)]
            read = await _next_offsets(connection)
        finally:
            await connection.close()
        if left:
            return left
        ends = await self._ends(READ)
        unread = [
            f"the log-sink has read {read.get((place.topic, place.partition), 0)} of {end} of {place.topic}"
            for place, end in ends.items()
            if read.get((place.topic, place.partition), 0) != end
        ]
        if unread:
            return unread
        # Commands and callbacks as well: who is stuck on one of them has no row that shows it.
        try:
            late = await behind(self._system.env["KAFKA_BOOTSTRAP_SERVERS"], await self._ends(TOPICS))
        except KafkaError as error:  # The coordinators move for a while after a broker was away.
            return [f"the groups cannot be asked: {error!r}"]
        return [f"{group} has not committed {n} records" for group, n in late.items()]

    async def _ends(self, topics: Sequence[Topic]) -> dict[TopicPartition, int]:
        servers = self._system.env["KAFKA_BOOTSTRAP_SERVERS"]
        places = await partitions_of(servers, topics)
        async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
            return {place: end for place, end in (await consumer.end_offsets(places)).items() if end}

    async def read_topics(self) -> dict[TopicPartition, int]:
        """Read new records; returns the end of each partition, except those of the dead letters.

        A topic that was deleted and created again is read from its start.
        """
        servers = self._system.env["KAFKA_BOOTSTRAP_SERVERS"]
        states = await describe(KafkaCluster(servers), (*READ, DEAD_LETTERS))
        places = places_in(states)
        async with AIOKafkaConsumer(
            bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
        ) as consumer:
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            for place in places:
                consumer.seek(place, self._positions.get((states[place.topic].id, place.partition), 0))
            with (self._folder / "events.jsonl").open("a", encoding="utf-8") as file:
                while any([await consumer.position(place) < ends[place] for place in places]):
                    for records in (await consumer.getmany(timeout_ms=200, max_records=5000)).values():
                        for record in records:
                            self._take(record, file)
            self._positions = {(states[place.topic].id, place.partition): ends[place] for place in places}
        return {place: end for place, end in ends.items() if end and place.topic != DEAD_LETTERS.name}

    def _take(self, record: ConsumerRecord[bytes, bytes], file: Any) -> None:
        if record.topic == DEAD_LETTERS.name:
            letter = _letter(record)
            self.dead_letters.append(letter)
            file.write(json.dumps({"dead_letter": asdict(letter)}) + "\n")
            return
        event = event_of(record)
        if event is not None:
            self.events.append(event)
            file.write(json.dumps(asdict(event), default=str) + "\n")

    def _read_bills(self) -> None:
        lines = whole_lines(self._system.bills_file, self._bills_read)
        self._bills_read += sum(map(len, lines))
        self.bills += [json.loads(line) for line in lines]

    def _read_logs(self) -> None:
        for one in self._system.logged:
            lines = whole_lines(one.log, self._logs_read[one.name])
            self._logs_read[one.name] += sum(map(len, lines))
            self.unexpected_ends += [UnexpectedEnd(one.name, error) for error in unexpected_errors(lines)]

    async def _tables(self) -> Tables:
        connection = await asyncpg.connect(self._system.env["DATABASE_URL"])
        try:
            rows = {name: [dict(row) for row in await connection.fetch(query)] for name, query in _QUERIES.items()}
            unfinished = [row["what"] for row in await connection.fetch(UNFINISHED)]
            return Tables(**rows, unfinished=unfinished, next_offsets=await _next_offsets(connection))
        finally:
            await connection.close()


def evidence_of_load(everything: Evidence, name: str, answers: Sequence[ClientAnswer]) -> Evidence:
    """The evidence of the jobs of one load, whose tokens begin with its name."""
    jobs = {one.job_id for one in answers if one.job_id is not None}
    jobs |= {one.job_id for one in everything.events if (token_in(one.data.get("input")) or "").startswith(f"{name}-")}

    def ours(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [row for row in rows if row["job_id"] in jobs]

    tables = everything.tables
    posts = [
        entry
        for entry in everything.bills
        if entry["event"] == "post" and (token_in(entry["input"]) or "").startswith(f"{name}-")
    ]
    runs = {entry["request_id"] for entry in posts if entry["request_id"]}
    endings = [entry for entry in everything.bills if entry["event"] != "post" and entry["request_id"] in runs]
    return replace(
        everything,
        answers=answers,
        bills=[*posts, *endings],
        events=[one for one in everything.events if one.job_id in jobs],
        tables=replace(
            tables,
            jobs=ours(tables.jobs),
            attempts=ours(tables.attempts),
            artifacts=ours(tables.artifacts),
            ledger=ours(tables.ledger),
            ordered=ours(tables.ordered),
            decided=ours(tables.decided),
        ),
    )


def whole_lines(file: Path, start: int) -> list[bytes]:
    """The lines from a position in bytes, each with its end; without one that is still being written."""
    with file.open("rb") as opened:
        opened.seek(start)
        return [line for line in opened if line.endswith(b"\n")]


def unexpected_errors(lines: Iterable[bytes]) -> Iterator[str]:
    """The errors upon which a process has ended by itself, from the lines of its log."""
    code = RuntimeEvent.UNEXPECTED_ERROR.code
    for line in lines:
        if code.encode() in line and (said := json.loads(line)).get("code") == code:
            yield str(said["error"])


def event_of(record: ConsumerRecord[bytes, bytes]) -> Event | None:
    """The event in a record; None if it is not a message of Segue."""
    try:
        said = decode(record.headers, record.value)
    except Undecodable:
        return None  # The dead letters show it.
    if not isinstance(said, Envelope):
        return None
    message = said.message
    short = message.TYPE.removeprefix("segue.").rpartition(".")[0]
    data = message.model_dump(mode="json")
    place = (record.topic, record.partition, record.offset)
    return Event(*place, short, str(said.event_id), str(message.job_id), message.occurred_at, data)


async def _next_offsets(connection: Any) -> dict[tuple[str, int], int]:
    rows = await connection.fetch("SELECT topic, kafka_partition, next_offset FROM log_sink.offsets")
    return {(row["topic"], row["kafka_partition"]): row["next_offset"] for row in rows if row["next_offset"]}


def _letter(record: ConsumerRecord[bytes, bytes]) -> DeadLetter:
    said = {name.removeprefix("dead-letter-"): value.decode(errors="replace") for name, value in record.headers}
    key = (record.key or b"").decode(errors="replace")
    return DeadLetter(said.get("service", "?"), said.get("topic", "?"), key, said.get("error", "?"))
