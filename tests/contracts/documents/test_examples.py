"""Golden examples: every version reads them. They are never edited; a new shape gets a new file."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from contracts.documents.generate import repository
from contracts.envelope import encode
from contracts.messages.base import Message
from contracts.topics import MESSAGE_TYPES, TOPICS, topic_for


def contains(whole: Any, part: Any) -> bool:
    """Whether `whole` contains all of `part`; it may have further fields."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return type(whole) is type(part) and bool(whole == part)


def test_every_type_has_an_example_and_every_example_a_type(example_messages: list[Message]) -> None:
    assert {message.TYPE for message in example_messages} == set(MESSAGE_TYPES)
    folders = {path.name for path in (repository() / "contracts" / "examples").iterdir()}
    assert folders == set(MESSAGE_TYPES)


def test_an_example_is_read_and_written_again_without_loss(example: Any) -> None:
    decoded = example.decoded()
    source = example.headers["ce_source"].removeprefix("/segue/")
    record = encode(decoded.message, source=source, traceparent=decoded.traceparent)
    assert {name: value.decode() for name, value in record.headers} == example.headers
    assert record.key.decode() == example.key
    assert record.topic == example.topic
    assert contains(json.loads(record.value), example.value)


def test_the_id_of_an_event_never_changes(example: Any) -> None:
    decoded = example.decoded()
    assert str(decoded.message.event_id) == decoded.event_id == example.headers["ce_id"]


def test_an_example_comes_from_a_producer_of_its_topic(example: Any) -> None:
    (topic,) = (topic for topic in TOPICS if topic.name == example.topic)
    assert example.headers["ce_source"].removeprefix("/segue/") in topic.producers
    assert topic_for(example.decoded().message).name == example.topic


def test_an_example_fits_the_committed_schema(example: Any) -> None:
    path = repository() / "contracts" / "schemas" / f"{example.headers['ce_type']}.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    errors = list(Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(example.value))
    assert errors == []


def test_contains_finds_lost_and_changed_values() -> None:
    whole = {"a": 1, "b": [{"c": 2.0, "d": None}], "e": 3}
    assert contains(whole, {"a": 1, "b": [{"c": 2.0}]})
    parts: list[Any] = [{"x": 1}, {"a": 2}, {"a": True}, {"b": []}, {"b": [{"c": 2}]}, {"b": [{"d": 0}]}, {"b": None}]
    assert [part for part in parts if contains(whole, part)] == []
