"""The AsyncAPI document: every reference can be resolved, and it agrees with the topic map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from contracts.documents.generate import repository
from contracts.topics import MESSAGE_TYPES, SERVICES, TOPICS


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository() / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    return loaded


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def resolve(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    at: Any = document
    for step in reference[2:].split("/"):
        at = at[step]
    return at


def test_every_reference_can_be_resolved(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert len(found) > len(MESSAGE_TYPES)
    for reference in found:
        assert resolve(document, reference) is not None


def test_it_has_a_channel_for_each_topic_with_what_it_carries(document: dict[str, Any]) -> None:
    assert {name: channel["address"] for name, channel in document["channels"].items()} == {
        topic.name: topic.name for topic in TOPICS
    }
    for topic in TOPICS:
        messages = document["channels"][topic.name]["messages"].values()
        names = {resolve(document, each["$ref"])["name"] for each in messages}
        assert names == {kind.TYPE for kind in topic.carries}


def test_it_has_the_senders_and_receivers_of_each_topic(document: dict[str, Any]) -> None:
    documented = {
        (operation["action"], operation["tags"][0]["name"], operation["channel"]["$ref"].removeprefix("#/channels/"))
        for operation in document["operations"].values()
    }
    sends = {("send", service, topic.name) for topic in TOPICS for service in topic.producers}
    receives = {("receive", service, topic.name) for topic in TOPICS for service in (*topic.groups, *topic.tails)}
    assert documented == sends | receives
    assert {service for _, service, _ in documented} == set(SERVICES)


def test_its_payload_schemas_accept_the_golden_examples(document: dict[str, Any], example: Any) -> None:
    payload = document["components"]["messages"][example.headers["ce_type"]]["payload"]
    schema = {**payload, "components": document["components"]}
    assert list(Draft202012Validator(schema).iter_errors(example.value)) == []
    assert list(Draft202012Validator(schema).iter_errors({})) != []


def test_its_header_schema_accepts_the_golden_examples(document: dict[str, Any], example: Any) -> None:
    headers = document["components"]["messageTraits"]["cloudEvent"]["headers"]
    assert list(Draft202012Validator(headers).iter_errors(example.headers)) == []
