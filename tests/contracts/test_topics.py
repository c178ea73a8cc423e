"""The topic map: complete, consistent, and the same for every provider."""

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


def test_the_map_has_the_documented_topics() -> None:
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
def test_a_topic_has_producers_consumers_and_a_purpose(topic: Topic) -> None:
    assert re.fullmatch(r"segue\.[a-z.-]+", topic.name)
    assert topic.producers
    assert topic.purpose
    assert {*topic.producers, *topic.groups, *topic.tails} <= set(SERVICES)
    assert (topic is DEAD_LETTERS) == (not topic.groups) == (not topic.carries)


@every_topic
def test_no_service_both_tails_a_topic_and_consumes_it_in_a_group(topic: Topic) -> None:
    assert not set(topic.groups) & set(topic.tails)


@every_topic
def test_topics_keep_records_for_a_week_and_are_not_compacted(topic: Topic) -> None:
    config = topic.config_for(replication=3)
    assert int(config["retention.ms"]) >= 7 * DAY_S * 1000
    assert config["cleanup.policy"] == "delete"
    assert int(config["min.insync.replicas"]) == 2
    assert topic.config_for(replication=1)["min.insync.replicas"] == "1"


@every_kind
def test_a_type_has_a_subject_an_event_and_a_major_version(kind: type[Message]) -> None:
    assert re.fullmatch(r"segue\.(job|attempt|callback)\.[a-z_]+\.v1", kind.TYPE)
    assert MESSAGE_TYPES[kind.TYPE] is kind


@every_kind
def test_a_type_is_carried_by_one_topic_or_is_a_command(kind: type[Message]) -> None:
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


def test_the_orchestrator_publishes_only_commands_and_job_events() -> None:
    assert {topic.name for topic in TOPICS if "orchestrator" in topic.producers} == {
        "segue.commands.fal",
        "segue.commands.replicate",
        "segue.jobs",
        "segue.dead-letters",
    }


def test_a_command_goes_to_the_topic_of_its_provider(example_messages: list[Message]) -> None:
    commands = [each for each in example_messages if isinstance(each, RunAttempt | CancelAttempt | ResolveAttempt)]
    assert len(commands) == 3
    for command in commands:
        for provider in PROVIDERS:
            assert topic_for(command.model_copy(update={"provider": provider})) is COMMANDS[provider]
