"""What each service may do on the cluster, from the topic map."""

from __future__ import annotations

import shlex

from contracts.access import TOPIC_MAKER, Grant, acl_commands, grants
from contracts.topics import DEAD_LETTERS, JOBS, REQUESTS, SERVICES, TOPICS, TopicNames

NAMES = TopicNames("staging.")


def test_each_service_gets_what_the_map_says_and_no_more() -> None:
    granted = grants(NAMES)
    assert set(granted) == {*SERVICES, TOPIC_MAKER}
    for service in SERVICES:
        topics = {grant.name: set(grant.operations) for grant in granted[service] if grant.resource == "topic"}
        expected: dict[str, set[str]] = {}
        for topic in TOPICS:
            if service in topic.groups or service in topic.tails:
                expected.setdefault(f"staging.{topic.name}", {"Describe"}).add("Read")
            if service in topic.producers:
                expected.setdefault(f"staging.{topic.name}", {"Describe"}).add("Write")
        assert topics == expected


def test_a_service_that_consumes_has_its_own_group_alone() -> None:
    for service in SERVICES:
        groups = [grant for grant in grants(NAMES)[service] if grant.resource == "group"]
        consumes = any(service in topic.groups for topic in TOPICS)
        assert groups == ([Grant("group", f"staging.{service}", ("Read", "Describe"))] if consumes else [])


def test_the_gateway_reads_what_it_tails_and_writes_what_it_asks_for() -> None:
    gateway = {grant.name: grant.operations for grant in grants(TopicNames())["gateway"]}
    assert gateway[REQUESTS.name] == ("Read", "Write", "Describe")
    assert gateway[JOBS.name] == ("Read", "Describe")
    assert gateway[DEAD_LETTERS.name] == ("Write", "Describe")


def test_each_grant_is_one_command_that_a_shell_takes_as_it_is() -> None:
    lines = acl_commands(NAMES, "CN=a b,O=", "a:1,b:2")
    assert len(lines) == sum(map(len, grants(NAMES).values()))
    words = shlex.split(lines[0])
    assert words[:3] == ["kafka-acls.sh", "--bootstrap-server", "a:1,b:2"]
    assert words[words.index("--allow-principal") + 1] == "User:CN=a b,O=gateway"
