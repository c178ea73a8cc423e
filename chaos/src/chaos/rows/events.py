"""Row 28: unreadable records in topics that every service consumes."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.record._crc32c import crc

from chaos.cluster.fleet import Fleet
from chaos.load.clients import Load
from chaos.rows.base import RATE, Row
from chaos.rows.probes import caught_up, ends, wait_for
from contracts.topics import ATTEMPTS, CALLBACKS, COMMANDS, DEAD_LETTERS, JOBS, REQUESTS, SERVICES, Topic

SPOILT: Final = (REQUESTS, ATTEMPTS, JOBS, CALLBACKS, *COMMANDS.values())
Headers = list[tuple[str, Any]]


def _garbage(record: ConsumerRecord[bytes, bytes]) -> Iterator[tuple[str, bytes | None, Headers]]:
    """Malformed variants of a valid record: name, value, headers."""
    value, headers = record.value or b"", list(record.headers)
    body = json.loads(value)

    def but(name: str, raw: bytes | None) -> Headers:
        return [(each, raw if each == name else said) for each, said in headers]

    def with_job(job_id: object) -> bytes:
        return json.dumps(body | {"job_id": job_id}).encode()

    kind = next(said for name, said in headers if name == "ce_type").decode()
    yield "no body", None, headers
    yield "bad JSON", value[: len(value) // 2], headers
    yield "wrong type", with_job(7), headers
    yield "1 MB", with_job("x" * 1_000_000), headers
    yield "NUL", with_job("a\0b"), headers
    yield "nesting", b'{"job_id": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", headers
    yield "a header of null", value, but("ce_type", None)
    yield "a header of no UTF-8", value, but("ce_type", b"\xff\xfe")
    yield "a future major version", value, but("ce_type", kind.rpartition(".")[0].encode() + b".v9")


async def _malformed(fleet: Fleet, load: Load, rng: random.Random) -> list[str]:
    since = await ends(fleet, DEAD_LETTERS)
    async with load.running(RATE):
        await load.wait_for_requests(15)
        await caught_up(fleet)
        sent = await _spoil(fleet)
        wanted = {(service, *place) for topic, places in sent.items() for service in topic.groups for place in places}
        letters: list[tuple[str, str, int, int]] = []

        async def buried() -> bool:
            letters[:] = await _letters(fleet, since)
            return wanted <= set(letters)

        await wait_for("every malformed record is in the dead letters", buried, 60)
    assert not await load.drain(60)
    await caught_up(fleet)
    letters = await _letters(fleet, since)
    assert sorted(letters) == sorted(wanted), (
        f"{len(letters)} dead letters of {len(wanted)}: {Counter(letters) - Counter(wanted)}"
    )
    records = sum(map(len, sent.values()))
    return [
        f"{records} malformed records in {len(sent)} topics, one of them with a header's name of no UTF-8",
        f"{len(letters)} dead letters: exactly one for each record and each group that reads it",
        f"all {len(load.requests)} jobs beside them ended; no group is behind",
    ]


async def _spoil(fleet: Fleet) -> dict[Topic, list[tuple[str, int, int]]]:
    servers = fleet.env["KAFKA_BOOTSTRAP_SERVERS"]
    sent: dict[Topic, list[tuple[str, int, int]]] = {}
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=4 << 20) as producer:
        for topic in SPOILT:
            good = await _last_of(fleet, topic)
            sent[topic] = []
            for name, value, headers in _garbage(good):
                key = f"chaos {name}".encode()
                at = await producer.send_and_wait(topic.name, value, key, headers=headers)
                sent[topic].append((at.topic, at.partition, at.offset))
        at = await _send_unreadable(producer, good)
        sent[topic].append((at.topic, at.partition, at.offset))
    return sent


async def _last_of(fleet: Fleet, topic: Topic) -> ConsumerRecord[bytes, bytes]:
    last = {place: end for place, end in (await ends(fleet, topic)).items() if end}
    async with AIOKafkaConsumer(bootstrap_servers=fleet.env["KAFKA_BOOTSTRAP_SERVERS"]) as consumer:
        place, end = next(iter(last.items()))
        consumer.assign([place])
        consumer.seek(place, end - 1)
        async with asyncio.timeout(10):
            found: ConsumerRecord[bytes, bytes] = await consumer.getone()
    return found


async def _send_unreadable(producer: AIOKafkaProducer, good: ConsumerRecord[bytes, bytes]) -> Any:
    """Send a record with a header whose name is not UTF-8, which no client produces."""
    batch = producer.create_batch()
    batch.append(key=good.key, value=good.value, timestamp=None, headers=[("NAME", b"value")])
    batch.close()
    raw = bytearray(batch._build())
    name = raw.index(b"NAME")
    raw[name : name + 4] = b"\xff\xfe\xfd\xfc"
    checksum_at = 17
    struct.pack_into(">I", raw, checksum_at, crc(bytes(raw[checksum_at + 4 :])))
    batch._buffer = bytes(raw)
    return await (await producer.send_batch(batch, good.topic, partition=good.partition))


async def _letters(fleet: Fleet, since: dict[TopicPartition, int]) -> list[tuple[str, str, int, int]]:
    """The dead letters since then: service, and topic, partition and offset of the source record."""
    found: list[tuple[str, str, int, int]] = []
    async with AIOKafkaConsumer(bootstrap_servers=fleet.env["KAFKA_BOOTSTRAP_SERVERS"]) as consumer:
        consumer.assign(list(since))
        for place, offset in since.items():
            consumer.seek(place, offset)
        last = await consumer.end_offsets(list(since))
        while any([await consumer.position(place) < last[place] for place in since]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    said = {name.removeprefix("dead-letter-"): raw.decode() for name, raw in record.headers}
                    found.append((said["service"], said["topic"], int(said["partition"]), int(said["offset"])))
    return found


ROWS = {
    row.number: row
    for row in (
        Row(
            28,
            "Malformed events",
            "one dead letter each, neighbours processed, no lag",
            _malformed,
            dead_letters=frozenset(SERVICES),
        ),
    )
}
