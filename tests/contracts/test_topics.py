"""The topic map: complete, without contradictions, and the same for every provider."""

from __future__ import annotations

import re

import pytest

from contracts.messages.base import Message
from contracts.messages.commands import CancelAttempt, ResolveAttempt, RunAttempt
from contracts.providers.registry import PROVIDERS
from contracts.providers.spec import ProviderSpec
from contracts.topics import (
    COMMANDS,
    DAY_S,
    DEAD_LETTERS,
    MESSAGE_TYPES,
    SERVICES,
    TOPICS,
    Topic,
    topic_for,
)

every_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
every_kind = pytest.mark.parametrize("kind", MESSAGE_TYPES.values(), ids=lambda kind: kind.TYPE)


def test_the_map_is_the_one_that_is_documented() -> None:
    assert sorted(topic.name for topic in TOPICS) == [
        "segue.attempts",
        "segue.callbacks",
        "segue.commands.fal",
        "segue.commands.replicate",
        "segue.dead-letters",
        "segue.jobs",
        "segue.requests",
    ]
    assert len(TOPICS) == len({topic.name for topic in TOPICS})


@every_topic
def test_a_topic_is_written_and_read_and_explained(topic: Topic) -> None:
    assert re.fullmatch(r"segue\.[a-z.-]+", topic.name)
    assert topic.producers
    assert topic.purpose
    assert {*topic.producers, *topic.groups, *topic.tails} <= set(SERVICES)
    assert (topic is DEAD_LETTERS) == (not topic.groups) == (not topic.carries)


@every_topic
def test_nobody_both_tails_a_topic_and_consumes_it_in_a_group(topic: Topic) -> None:
    assert not set(topic.groups) & set(topic.tails)


@every_topic
def test_topics_outlive_a_long_weekend_and_are_never_compacted(topic: Topic) -> None:
    config = topic.config_for(replication=3)
    assert int(config["retention.ms"]) >= 7 * DAY_S * 1000
    assert config["cleanup.policy"] == "delete"
    assert int(config["min.insync.replicas"]) == 2
    assert topic.config_for(replication=1)["min.insync.replicas"] == "1"


@every_kind
def test_a_type_names_its_subject_what_happened_and_its_major(kind: type[Message]) -> None:
    assert re.fullmatch(r"segue\.(job|attempt|callback)\.[a-z_]+\.v1", kind.TYPE)
    assert MESSAGE_TYPES[kind.TYPE] is kind


@every_kind
def test_a_type_travels_on_one_topic_or_is_a_command(kind: type[Message]) -> None:
    topics = [topic for topic in TOPICS if kind in topic.carries]
    assert len(topics) == 1 or topics == list(COMMANDS.values())


def test_every_message_is_in_the_map() -> None:
    def below(kind: type[Message]) -> set[type[Message]]:
        return {kind, *(each for child in kind.__subclasses__() for each in below(child))}

    assert {kind for kind in below(Message) if "TYPE" in vars(kind)} == set(MESSAGE_TYPES.values())


@pytest.mark.parametrize("spec", PROVIDERS.values(), ids=PROVIDERS)
def test_each_provider_has_an_adapter_with_commands_of_its_own(spec: ProviderSpec) -> None:
    assert COMMANDS[spec.name].groups == (spec.service,) == (f"{spec.name}-adapter",)
    assert COMMANDS[spec.name].name == f"segue.commands.{spec.name}"
    assert spec.schema == f"{spec.name}_adapter"


def test_only_the_services_that_may_decide_publish_commands_and_outcomes() -> None:
    assert {topic.name for topic in TOPICS if "orchestrator" in topic.producers} == {
        "segue.commands.fal",
        "segue.commands.replicate",
        "segue.jobs",
        "segue.dead-letters",
    }


def test_a_command_goes_to_its_providers_topic(example_messages: list[Message]) -> None:
    commands = [each for each in example_messages if isinstance(each, RunAttempt | CancelAttempt | ResolveAttempt)]
    assert len(commands) == 3
    for command in commands:
        for provider in PROVIDERS:
            assert topic_for(command.model_copy(update={"provider": provider})) is COMMANDS[provider]
