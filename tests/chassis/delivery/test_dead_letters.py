"""A dead letter contains the whole record and its origin, whatever the record contains."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from chassis.delivery.dead_letters import DeadLetter, to_record
from contracts.topics import DEAD_LETTERS, MAX_MESSAGE_BYTES, REQUESTS


def record(key: bytes | None, value: bytes | None, headers: Any = ()) -> Any:
    return ConsumerRecord(
        topic=REQUESTS.name,
        partition=3,
        offset=7,
        timestamp=1_700_000_000_000,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=headers,
    )


@given(
    key=st.none() | st.binary(max_size=50),
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=20)), max_size=5).map(tuple),
    error=st.text(max_size=2000),
    tries=st.integers(0, 3),
)
def test_the_record_can_be_restored_from_its_dead_letter(
    key: bytes | None,
    value: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    error: str,
    tries: int,
) -> None:
    letter = to_record(DeadLetter(record(key, value, headers), error, tries), "toy")
    said = {name: raw.decode() for name, raw in letter.headers}
    assert letter.topic == DEAD_LETTERS.name
    assert (None if said["dead-letter-null-key"] == "true" else letter.key) == key
    assert (None if said["dead-letter-null-value"] == "true" else letter.value) == value
    assert [
        (name, None if raw is None else base64.b64decode(raw)) for name, raw in json.loads(said["dead-letter-headers"])
    ] == list(headers)
    assert said["dead-letter-error"] == error[:1000].encode("utf-8", "replace").decode()
    assert said["dead-letter-tries"] == str(tries)
    assert "dead-letter-left-out" not in said
    assert (said["dead-letter-service"], said["dead-letter-topic"]) == ("toy", REQUESTS.name)
    assert (said["dead-letter-partition"], said["dead-letter-offset"]) == ("3", "7")
    assert said["dead-letter-timestamp-ms"] == "1700000000000"


@pytest.mark.parametrize(
    ("value_bytes", "headers", "left_out"),
    [
        (1_000_000, (("h", b"x" * 100_000),), None),
        (1_800_000, (("h", b"x" * 250_000),), "headers"),
        (10, (("", b""),) * 500_000, "headers"),
        (MAX_MESSAGE_BYTES - 100, (), "headers,value,key"),
    ],
)
def test_a_dead_letter_never_exceeds_the_size_limit(
    value_bytes: int, headers: tuple[tuple[str, bytes | None], ...], left_out: str | None
) -> None:
    letter = to_record(DeadLetter(record(b"key", b"x" * value_bytes, headers), "why " * 1000, 0), "toy")
    said = {name: raw.decode() for name, raw in letter.headers}
    assert said.get("dead-letter-left-out") == left_out
    assert len(letter.value) == (0 if left_out and "value" in left_out else value_bytes)
    assert sum(len(name) + len(raw) for name, raw in letter.headers) + len(letter.value) < MAX_MESSAGE_BYTES
    assert said["dead-letter-offset"] == "7"
