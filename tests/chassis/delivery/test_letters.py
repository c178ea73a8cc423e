"""What is read back from a dead letter, and the record that is published again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from tests.chassis.delivery.test_dead_letters import record
from tests.chassis.toy import request

from chassis.delivery.dead_letters import EVERYTHING, DeadLetter, to_record
from chassis.delivery.handling import REPLAYED, arrived_at
from chassis.delivery.letters import Letter, NotALetter, letter_of, replayed
from contracts.envelope import Record, encode
from contracts.messages.commands import RunAttempt
from contracts.topics import DEAD_LETTERS, MAX_MESSAGE_BYTES, REQUESTS, TopicNames

NAMES = TopicNames()
ARRIVED = (REPLAYED, b"1700000000000")
LATER_MS = 1_800_000_000_000
EXAMPLES = Path(__file__).resolve().parents[3] / "contracts" / "examples" / RunAttempt.TYPE


def read_back(letter: DeadLetter) -> Letter:
    written = to_record(letter, "orchestrator")
    return letter_of(in_topic(written.key, written.value, written.headers))


def in_topic(key: bytes | None, value: bytes | None, headers: Any) -> Any:
    return ConsumerRecord(
        topic=DEAD_LETTERS.name,
        partition=2,
        offset=41,
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
    key=st.binary(max_size=50),
    value=st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=20)), max_size=5).map(tuple),
)
def test_a_letter_gives_the_record_that_it_was(key: bytes, value: bytes, headers: Any) -> None:
    letter = read_back(DeadLetter(record(key, value, headers), "ValueError: no", 3))
    again = replayed(letter, NAMES, runs=False)
    assert again == Record(REQUESTS.name, key, value, (*headers, ARRIVED))
    assert (letter.id, letter.service, letter.topic) == ("2/41", "orchestrator", REQUESTS.name)
    assert (letter.source_partition, letter.source_offset, letter.tries) == (3, 7, 3)


def test_a_letter_tells_the_type_of_its_message() -> None:
    sent = request(1)
    letter = read_back(DeadLetter(record(sent.key, sent.value, sent.headers), "ValueError: no", 3))
    assert letter.type == "segue.job.cancel_requested.v1"
    assert replayed(letter, NAMES, runs=False) == Record(sent.topic, sent.key, sent.value, (*sent.headers, ARRIVED))


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (DeadLetter(record(None, b"v"), "x", 0), "no key or no value"),
        (DeadLetter(record(b"k", None), "x", 0), "no key or no value"),
        (DeadLetter(record(b"k", b"v", (("h", None),)), "x", 0), "a header without a value"),
        (DeadLetter(record(b"k", b"v", (("h", bytes(MAX_MESSAGE_BYTES)),)), "x", 0), "lacks the record's headers"),
        (DeadLetter(record(b"k", b"v"), "x", 0, left_out=EVERYTHING), "lacks the record's headers and value and key"),
    ],
    ids=["no key", "no value", "no header value", "too large", "nothing left"],
)
def test_what_cannot_be_published_again_is_told(letter: DeadLetter, why: str) -> None:
    answer = replayed(read_back(letter), NAMES, runs=True)
    assert isinstance(answer, str)
    assert why in answer


def test_a_record_of_another_segue_is_not_published_here() -> None:
    letter = read_back(DeadLetter(record(b"k", b"v"), "x", 0))
    assert replayed(letter, TopicNames("staging."), runs=True) == (
        f"{REQUESTS.name} is no topic that a service of this Segue consumes"
    )


@given(headers=st.dictionaries(st.text(max_size=30), st.none() | st.binary(max_size=30), max_size=12))
def test_what_is_no_letter_is_told(headers: dict[str, bytes | None]) -> None:
    with pytest.raises(NotALetter, match="2/41"):
        letter_of(in_topic(b"k", b"v", tuple(headers.items())))


def test_a_letter_with_a_broken_header_is_told() -> None:
    written = to_record(DeadLetter(record(b"k", b"v", (("h", b"1"),)), "x", 0), "toy")
    for name, _ in written.headers:
        broken = tuple((other, b"\xff" if other == name else value) for other, value in written.headers)
        if name in ("dead-letter-null-key", "dead-letter-null-value"):
            continue
        with pytest.raises(NotALetter):
            letter_of(in_topic(b"k", b"v", broken))


def test_a_replayed_record_arrived_when_it_first_did_however_often_it_is_replayed() -> None:
    once = replayed(read_back(DeadLetter(record(b"k", b"v"), "x", 0)), NAMES, runs=False)
    assert isinstance(once, Record)
    first = arrived_at(in_topic(b"k", b"v", ()))
    assert arrived_at(replace(in_topic(b"k", b"v", once.headers), timestamp=LATER_MS)) == first
    again = record(b"k", b"v", once.headers)
    twice = replayed(read_back(DeadLetter(replace(again, timestamp=LATER_MS), "x", 0)), NAMES, runs=False)
    assert isinstance(twice, Record)
    assert twice.headers == once.headers


@pytest.mark.parametrize(
    "value", [None, b"", b"-1", b"soon", b"9" * 16, b"9" * 5000, "\u0661".encode(), str(LATER_MS).encode()]
)
def test_a_time_of_a_first_arrival_that_is_none_or_later_does_not_count(value: bytes | None) -> None:
    bare = in_topic(b"k", b"v", ())
    assert arrived_at(in_topic(b"k", b"v", ((REPLAYED, value),))) == arrived_at(bare) is not None


def test_a_command_to_run_an_attempt_is_published_only_if_that_is_said() -> None:
    command = RunAttempt.model_validate(json.loads(next(EXAMPLES.glob("*.json")).read_text())["value"])
    sent = encode(command, source="orchestrator", traceparent=None)
    letter = read_back(DeadLetter(replace(record(sent.key, sent.value, sent.headers), topic=sent.topic), "x", 3))
    refused = replayed(letter, NAMES, runs=False)
    assert isinstance(refused, str)
    assert "--runs publishes it" in refused
    assert replayed(letter, NAMES, runs=True) == replace(sent, headers=(*sent.headers, ARRIVED))
    # Another release may read what this one cannot.
    garbled = read_back(DeadLetter(replace(record(sent.key, b"{}", sent.headers), topic=sent.topic), "x", 3))
    assert "--runs publishes it" in str(replayed(garbled, NAMES, runs=False))
