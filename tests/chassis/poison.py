"""Records that nobody can decode, and how to read the dead letters that come of them."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiokafka import ConsumerRecord
from tests.chassis.toy import request

from contracts.envelope import Record
from contracts.topics import REQUESTS

GOOD_HEADERS = request(0).headers


def garbage() -> dict[str, Record]:
    """One record of each kind that can't be decoded, by what its dead letter has to say."""
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
        "EOF while parsing": Record(REQUESTS.name, None, b'{"job_id": ', GOOD_HEADERS),  # type: ignore[arg-type]
        "Input should be a valid string": with_value(json.dumps(body | {"tenant": 7}).encode()),
        "UnknownMajor": with_headers(headers(type=b"segue.job.cancel_requested.v9")),
        "at most 200 characters": with_value(json.dumps(body | {"tenant": "x" * 1_000_000}).encode()),
        "tenant: String should match pattern": with_value(json.dumps(body | {"tenant": "a\0b"}).encode()),
        "recursion limit": with_value(b'{"job_id": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    }


def letter_of(record: ConsumerRecord[bytes, bytes]) -> dict[str, str]:
    return {
        name.removeprefix("dead-letter-"): value.decode()
        for name, value in record.headers
        if name.startswith("dead-letter-")
    }


def original_headers(letter: dict[str, str]) -> list[tuple[str, bytes | None]]:
    told = json.loads(letter["headers"])
    return [(name, None if raw is None else base64.b64decode(raw)) for name, raw in told]
