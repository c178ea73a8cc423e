"""Undecodable records, and helpers that read the resulting dead letters."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.record.util import calc_crc32c
from tests.chassis.toy import request

from contracts.envelope import Record
from contracts.topics import REQUESTS

CRC_AT = 17
"""Offset of the checksum in a batch of records; it covers the bytes after it."""
ATTRIBUTES_AT = 22
"""Offset of the attributes; the lowest bits are the number of the codec."""
GZIP, ZSTD = 1, 4
NO_KEY: Any = None
GOOD_HEADERS = request(0).headers


def garbage() -> dict[str, Record]:
    """One record of each undecodable kind, by the reason that its dead letter must contain."""
    value = request(1).value
    body = json.loads(value)

    def headers(**changed: bytes | None) -> Any:
        return tuple((name, changed.get(name.removeprefix("ce_"), raw)) for name, raw in GOOD_HEADERS)

    def with_value(raw: Any) -> Record:
        return Record(REQUESTS.name, b"key", raw, GOOD_HEADERS)

    def with_headers(made: Any) -> Record:
        return Record(REQUESTS.name, b"key", value, made)

    return {
        "ce_type is not one of Segue's": with_headers((*headers(type=b"\xff\xfe"), ("x", b"\xff"), ("y", None))),
        "no ce_type header": with_headers(headers(type=None)),
        "no ce_id header": with_headers(headers(id=None)),
        "no body": with_value(None),
        "EOF while parsing": Record(REQUESTS.name, NO_KEY, b'{"job_id": ', GOOD_HEADERS),
        "Input should be a valid string": with_value(json.dumps(body | {"tenant": 7}).encode()),
        "UnknownMajor": with_headers(headers(type=b"segue.job.cancel_requested.v9")),
        "at most 200 characters": with_value(json.dumps(body | {"tenant": "x" * 1_000_000}).encode()),
        "tenant: String should match pattern": with_value(json.dumps(body | {"tenant": "a\0b"}).encode()),
        "recursion limit": with_value(b'{"job_id": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    }


def flood(count: int) -> list[Record]:
    """`count` small undecodable records of every kind."""
    kinds = [bad for bad in garbage().values() if len(bad.value or b"") < 10_000]
    return [kinds[n % len(kinds)] for n in range(count)]


async def send_oversized(servers: str, size: int) -> None:
    """Send a record to partition 0 that Kafka accepts only because it is compressed."""
    async with AIOKafkaProducer(
        bootstrap_servers=servers, compression_type="gzip", max_request_size=2 * size
    ) as producer:
        await producer.send_and_wait(REQUESTS.name, b"x" * size, key=b"key", headers=list(GOOD_HEADERS), partition=0)


def _as_codec(number: int) -> Callable[[bytearray], None]:
    def claim(raw: bytearray) -> None:
        raw[ATTRIBUTES_AT] |= number

    return claim


def _damage_a_header(raw: bytearray) -> None:
    name = raw.index(b"NAME")
    raw[name : name + 4] = b"\xff\xfe\xfd\xfc"


DAMAGE: dict[str, Callable[[bytearray], None]] = {
    "the name of a header, here or before it in its batch, is no UTF-8": _damage_a_header,
    "its batch is compressed with a codec that is not installed here": _as_codec(ZSTD),
    "its batch cannot be decompressed": _as_codec(GZIP),
}
"""Changes that make a batch of three records unreadable, by the reason that its dead letters must contain."""


async def send_unreadable(servers: str, good: Record, damage: Callable[[bytearray], None] = _damage_a_header) -> None:
    """Send three records to partition 0 in one damaged batch; only with a bad header is its first one readable."""
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        batch = producer.create_batch()
        for headers in (list(good.headers), [("NAME", b"value")], list(good.headers)):
            batch.append(key=good.key, value=good.value, timestamp=None, headers=headers)
        batch.close()
        raw = bytearray(batch._build())
        damage(raw)
        struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[CRC_AT + 4 :])))
        batch._buffer = bytes(raw)
        await (await producer.send_batch(batch, good.topic, partition=0))


def letter_of(record: ConsumerRecord[bytes, bytes]) -> dict[str, str]:
    return {
        name.removeprefix("dead-letter-"): value.decode()
        for name, value in record.headers
        if name.startswith("dead-letter-")
    }


def original_headers(letter: dict[str, str]) -> list[tuple[str, bytes | None]]:
    headers = json.loads(letter["headers"])
    return [(name, None if raw is None else base64.b64decode(raw)) for name, raw in headers]
