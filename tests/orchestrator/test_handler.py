"""The handler opens a transaction only for messages that may change a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from tests.builders import attempt_event, delivered, job_requested, nobody_silent

from chassis.delivery.handling import Delivered
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime
from contracts.catalogue import default_catalogue_path, load_catalogue
from contracts.ids import job_id_for
from contracts.messages.attempts import AttemptProgressed, AttemptSubmitting
from contracts.messages.base import Message
from orchestrator.handler import JobHandler
from orchestrator.routing.planning import Routing
from orchestrator.routing.policy import Policies

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = job_id_for("default", "handler")


class NoDatabase(Exception):
    """A connection was asked for."""


class NoPool:
    """A pool without connections."""

    def acquire(self, **_: object) -> object:
        raise NoDatabase


def handler() -> JobHandler:
    runtime = Runtime("orchestrator", make_telemetry("orchestrator", None))
    outbox = Outbox(cast("Any", NoPool()), cast("Any", None), runtime)
    routing = Routing(load_catalogue(default_catalogue_path()), Policies(), "fal", ("fal", "replicate"))
    return JobHandler(outbox, routing, nobody_silent, timedelta(days=90), lambda _: None, runtime.telemetry)


def batch(*messages: Message) -> list[Delivered]:
    return [delivered(each, NOW) for each in messages]


async def test_no_transaction_without_a_message_that_may_change_a_job() -> None:
    event = {"provider": "fal", "model": "music/test", "endpoint": "fal/model"}
    submitting = attempt_event(AttemptSubmitting, JOB, 1, 1, NOW, **event)
    progressed = attempt_event(AttemptProgressed, JOB, 1, 2, NOW, stage="running", **event)
    await handler()(batch(submitting, progressed))
    with pytest.raises(NoDatabase):
        await handler()(batch(submitting, job_requested(JOB, NOW), progressed))
