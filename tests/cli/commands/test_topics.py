"""`segue topics`: the map in print, and on a broker."""

from __future__ import annotations

import re
from typing import Any

from contracts.topics import TOPICS


def test_the_map_is_printed_whole(shell: Any) -> None:
    done = shell.run("topics")
    assert done.returncode == 0
    for topic in TOPICS:
        assert topic.name in done.stdout
        assert all(kind.TYPE in done.stdout for kind in topic.carries)
    assert re.search(r"segue\.dead-letters.*30 days", done.stdout)
    assert "gateway (tail)" in done.stdout


def test_to_create_them_takes_a_broker(shell: Any) -> None:
    done = shell.run("topics", "--create")
    assert done.returncode == 78
    assert "KAFKA_BOOTSTRAP_SERVERS is not set" in done.stdout


async def test_topics_that_are_there_stay_as_they_are(shell: Any, embedded_kafka: str) -> None:
    done = shell.run("topics", env={"KAFKA_BOOTSTRAP_SERVERS": embedded_kafka})
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("exists") == len(TOPICS)


def test_a_broker_that_is_away_is_named(shell: Any) -> None:
    done = shell.run("topics", env={"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert done.returncode == 78
    told = "KAFKA_BOOTSTRAP_SERVERS: no broker answered at 127.0.0.1:1 within 10 s (127.0.0.1:1: nothing listens there)"
    assert told in done.stdout.splitlines()


def test_addresses_that_are_none_are_told_at_once(shell: Any) -> None:
    for servers, told in (("kafka:9092,other", "'other' is not"), ("SSL://kafka:9093", "asks for SSL")):
        done = shell.run("topics", "--create", env={"KAFKA_BOOTSTRAP_SERVERS": servers})
        assert done.returncode == 78
        assert told in done.stdout.splitlines()[-1]
