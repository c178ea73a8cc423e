"""`segue topics`: the printed map, and the topics of a broker."""

from __future__ import annotations

import re
from typing import Any

from chassis.kafka.metadata import TopicState
from contracts.access import grants
from contracts.topics import PARTITIONS, REQUESTS, TOPICS, TopicNames
from segue_cli.local.kafka import cluster
from segue_cli.stack.topics import too_few_copies


def test_the_map_is_printed_whole(shell: Any) -> None:
    done = shell.run("topics")
    assert done.returncode == 0
    for topic in TOPICS:
        assert topic.name in done.stdout
        assert all(kind.TYPE in done.stdout for kind in topic.carries)
    assert re.search(r"segue\.dead-letters.*30 days", done.stdout)
    assert "gateway (tail)" in done.stdout


def test_the_map_has_the_names_and_partitions_of_the_settings(shell: Any) -> None:
    done = shell.run("topics", env={"SEGUE_TOPIC_PREFIX": "staging.", "SEGUE_TOPIC_PARTITIONS": "12"})
    assert done.returncode == 0
    assert "Topics, 12 partitions each" in done.stdout
    assert all(f"staging.{topic.name}" in done.stdout for topic in TOPICS)


def test_the_grants_are_printed_as_commands(shell: Any) -> None:
    env = {"SEGUE_TOPIC_PREFIX": "staging.", "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}
    done = shell.run("topics", "--acls", "CN=segue-", env=env)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert (
        "kafka-acls.sh --bootstrap-server kafka:9093 --command-config admin.properties --add"
        " --allow-principal User:CN=segue-orchestrator --operation Read --operation Describe"
        " --topic staging.segue.requests"
    ) in lines
    assert len(lines) == sum(len(granted) for granted in grants(TopicNames()).values())


def test_wrong_settings_of_a_login_are_reported(shell: Any) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9093", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    done = shell.run("topics", env=env)
    assert done.returncode == 78
    assert "KAFKA_SASL_MECHANISM: has to be set where KAFKA_SECURITY_PROTOCOL is SASL_SSL" in done.stdout


def test_creating_and_waiting_need_a_broker(shell: Any) -> None:
    for words in (["--create"], ["--wait", "5"], ["--no-create", "--wait", "5"]):
        done = shell.run("topics", *words)
        assert done.returncode == 78, words
        assert "KAFKA_BOOTSTRAP_SERVERS is not set" in done.stdout


async def test_existing_topics_are_not_changed(shell: Any, embedded_kafka: str) -> None:
    done = shell.run("topics", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("exists") == len(TOPICS)


def test_an_unreachable_broker_is_named(shell: Any) -> None:
    done = shell.run("topics", env={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert done.returncode == 75
    line = "KAFKA_BOOTSTRAP_SERVERS: no broker answered at 127.0.0.1:1 within 10 s (127.0.0.1:1: nothing listens there)"
    assert line in done.stdout.splitlines()


def test_invalid_addresses_are_reported_at_once(shell: Any) -> None:
    for servers, message in (("kafka:9092,other", "'other' is not"), ("SSL://kafka:9093", "names SSL")):
        done = shell.run("topics", "--create", env={"KAFKA_BOOTSTRAP_SERVERS": servers})
        assert done.returncode == 78
        assert message in done.stdout.splitlines()[-1]


def test_waiting_for_topics_creates_none(shell: Any) -> None:
    with cluster({REQUESTS.name: PARTITIONS}, brokers=1, port=0) as servers:
        done = shell.run("topics", "--wait", "0", env={"KAFKA_BOOTSTRAP_SERVERS": servers})
    assert done.returncode == 75
    line = done.stdout.splitlines()[-1]
    assert line.startswith("KAFKA_BOOTSTRAP_SERVERS: ")
    assert "segue.jobs" in line
    assert REQUESTS.name not in line


def test_waiting_ends_when_all_topics_exist(shell: Any, embedded_kafka: str) -> None:
    done = shell.run("topics", "--wait", "60", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert (done.returncode, done.stdout.count("exists")) == (0, len(TOPICS)), done.stdout


def test_topics_with_fewer_copies_than_asked_for_are_named(shell: Any, embedded_kafka: str) -> None:
    done = shell.run("topics", "--replication", "3", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert done.returncode == 0, "they are not changed"
    assert done.stdout.count("exists, 1 copy") == len(TOPICS)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fewer than 3 copies: ")]
    assert all(f"{topic.name} (1)" in line for topic in TOPICS)
    assert "docs/operations/kafka.md says how to add copies with kafka-reassign-partitions.sh" in line


def test_as_many_copies_as_brokers_are_enough_if_nothing_else_is_asked_for(shell: Any, embedded_kafka: str) -> None:
    done = shell.run("topics", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert (done.returncode, "copies: " in done.stdout) == (0, False), done.stdout


def test_topics_with_copies_on_all_of_three_brokers_are_enough(shell: Any) -> None:
    with cluster({topic.name: PARTITIONS for topic in TOPICS}, brokers=3, port=0) as servers:
        done = shell.run("topics", "--wait", "60", "--replication", "3", env={"KAFKA_BOOTSTRAP_SERVERS": servers})
    assert done.stdout.count("exists, 3 copies") == len(TOPICS)
    assert "fewer than" not in done.stdout


def test_only_known_copies_are_too_few() -> None:
    numbers = frozenset(range(PARTITIONS))
    there = {name: TopicState("id", numbers, None, n) for name, n in (("b", 2), ("a", 1), ("c", 3), ("unknown", 0))}
    few = too_few_copies(there, 3)
    assert few is not None
    assert few.startswith("fewer than 3 copies: a (1), b (2): ")
    assert too_few_copies(there, 1) is None
