"""The doctor's check of Kafka's copies: what it warns about, and where there is nothing to choose."""

from __future__ import annotations

import pytest
from tests.patience import patient

from chassis.kafka.metadata import TopicState
from chassis.kafka.topics import describe
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import PARTITIONS, TOPICS
from segue_cli.doctor.copies import copies, judged
from segue_cli.local.kafka import cluster

NAMES = [topic.name for topic in TOPICS]


def topics(count: int, **others: int) -> dict[str, TopicState]:
    """Two topics with so many copies, and others with theirs."""
    every = {"one": count, "two": count, **others}
    return {name: TopicState("id", frozenset(range(PARTITIONS)), None, n) for name, n in every.items()}


@pytest.mark.parametrize(
    ("there", "in_sync", "verdict", "found"),
    [
        (topics(3), {"one": 2, "two": 2}, "ok", "3 or more; confirmed records are in 2 or more"),
        (topics(2), {"one": 2, "two": 2}, "ok", "2 or more; confirmed records are in 2 or more"),
        (topics(3), {"one": 2}, "ok", "3 or more; User:me may not see (DescribeConfigs) how many confirm: two"),
        (topics(3, bare=1), {"one": 2, "two": 2, "bare": 1}, "warn", "fewer than 2 copies: bare (1): "),
        (topics(3, bare=1), {}, "warn", "fewer than 2 copies: bare (1): "),
        (topics(3), {"one": 1, "two": 2}, "warn", "min.insync.replicas is less than 2: one: "),
        (topics(2), {"one": 1, "two": 1}, "warn", "min.insync.replicas is less than 2: one, two: "),
    ],
)
def test_copies_are_judged(there: dict[str, TopicState], in_sync: dict[str, int], verdict: str, found: str) -> None:
    (finding,) = judged(there, in_sync, "User:me")
    assert finding.verdict == verdict
    assert finding.found.startswith(found)
    assert ("docs/operations/kafka.md" in finding.todo) == (verdict == "warn")


def test_both_faults_are_found() -> None:
    assert len(judged(topics(3, bare=1), {"one": 1, "two": 2, "bare": 1}, "User:me")) == 2


@pytest.mark.parametrize(("brokers", "found"), [(1, []), (3, ["ok"])])
async def test_only_a_cluster_of_several_brokers_is_judged(brokers: int, found: list[str]) -> None:
    with cluster(dict.fromkeys(NAMES, PARTITIONS), brokers=brokers, port=0) as servers:
        where = KafkaCluster(servers)
        there = await describe(where, TOPICS)
        assert {state.copies for state in there.values()} == {brokers}
        assert [one.verdict for one in await copies(where, there, patient(20))] == found
