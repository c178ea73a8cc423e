"""How long a start goes on while the brokers refuse this client; real refusals are tested with Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing

from chassis.errors import CannotStart
from chassis.kafka import refusals, topics
from chassis.kafka.diagnosis import Fault, LoginRefused, Refused
from chassis.kafka.metadata import TopicState
from chassis.kafka.refusals import REFUSED_LIMIT_S, NotPermitted, RefusalLimit
from chassis.kafka.topics import require_topics
from chassis.settings.kafka.cluster import KafkaCluster
from contracts.topics import PARTITIONS, REQUESTS

CLUSTER = KafkaCluster("kafka:9093")
REFUSED = LoginRefused(Fault("kafka:9093", "it refuses the login", "KAFKA_SASL_PASSWORD", refused=True, login=True))
DENIED = {REQUESTS.name: TopicState("id", frozenset(range(PARTITIONS)), frozenset())}
ALLOWED = {REQUESTS.name: TopicState("id", frozenset(range(PARTITIONS)), frozenset({"Read"}))}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the limit, in the place of the machine's: `now` in seconds."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(refusals, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_a_refusal_is_told_once_and_raised_when_it_has_lasted(clock: SimpleNamespace) -> None:
    told: list[str] = []
    limit = RefusalLimit(told.append)
    for _ in range(3):
        limit.note(REFUSED)
    clock.now += REFUSED_LIMIT_S - 1
    limit.note(REFUSED)
    assert told == [str(REFUSED)]
    clock.now += 1
    with pytest.raises(LoginRefused):
        limit.note(REFUSED)


def test_anything_else_begins_the_time_anew(clock: SimpleNamespace) -> None:
    told: list[str] = []
    limit = RefusalLimit(told.append)
    limit.note(REFUSED)
    clock.now += REFUSED_LIMIT_S - 1
    limit.note(ConnectionRefusedError("it starts again"))
    clock.now += REFUSED_LIMIT_S
    limit.note(REFUSED)
    clock.now += REFUSED_LIMIT_S - 1
    limit.note(REFUSED)
    assert told == [str(REFUSED)] * 2


def answering(monkeypatch: pytest.MonkeyPatch, answers: Iterable[Any], clock: SimpleNamespace) -> None:
    """Let the cluster answer with these, ten seconds apart: errors, or topics."""
    rest = iter(answers)

    async def describe(*_: Any) -> Any:
        clock.now += 10
        answer = next(rest)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(topics, "describe", describe)
    monkeypatch.setattr(topics, "REFUSED_PAUSE_S", 0.0)


async def test_a_start_goes_on_once_the_brokers_know_the_user_and_its_grants(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    answering(monkeypatch, [REFUSED, REFUSED, DENIED, ALLOWED], clock)
    with structlog.testing.capture_logs() as logs:
        await require_topics(CLUSTER, reads=[REQUESTS])
    assert [(line["log_level"], line["reason"]) for line in logs] == [("warning", str(REFUSED))]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (REFUSED, "KAFKA_SASL_PASSWORD: kafka:9093: it refuses the login"),
        (DENIED, "KAFKA_BOOTSTRAP_SERVERS: the cluster"),
    ],
)
async def test_a_start_is_given_up_after_a_minute_of_refusals(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace, answer: Any, told: str
) -> None:
    answering(monkeypatch, [answer] * 7, clock)
    with pytest.raises(NotPermitted) as raised:
        await require_topics(CLUSTER, reads=[REQUESTS])
    assert str(raised.value).startswith(told)


async def test_a_wrong_setting_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    answering(monkeypatch, [Refused(Fault("kafka:9093", "it uses TLS", refused=True))], clock)
    with pytest.raises(CannotStart, match="it uses TLS"):
        await require_topics(CLUSTER, reads=[REQUESTS])
