"""The view of a job's log, on bodies that the decoder accepts although their fields are written in an unusual way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.builders import attempt_outcome

from chassis.postgres.pool import Pool
from contracts.failures import FailureKind
from contracts.messages.attempts import AttemptCancelled
from contracts.messages.jobs import JobFailed
from contracts.messages.requests import CancelRequested
from log_sink.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("version", "shown"),
    [(7, 7), (7.0, 7), ("7.00", 7), ("2.1", None), ("x", None), (10**30, None), ([], None), (-1, None), (None, None)],
)
async def test_a_field_of_any_form_keeps_the_log_readable(
    pool: Pool, store: Store, deliver: Any, story: Any, version: object, shown: int | None
) -> None:
    """A request has no version: the field is unknown, and may hold anything."""
    cancel = CancelRequested(job_id=story.job_id, tenant="acme", occurred_at=story.requested().occurred_at)
    strange = {"version": version, "late": "maybe", "attempts": [{"outcome": "failed", "n": "first"}]}
    await store.store([deliver(cancel, value=json.dumps(json.loads(cancel.model_dump_json()) | strange).encode())])
    [line] = await pool.fetch("SELECT * FROM v_job_log")
    assert (line["version"], line["late"], line["answers_to"]) == (shown, False, None)


@pytest.mark.parametrize("late", [True, "YES", "t", 1, 1.0, False, "off", 0, 0.0])
async def test_a_known_field_is_read_as_the_decoder_reads_it(
    pool: Pool, store: Store, deliver: Any, story: Any, late: object
) -> None:
    stopped = AttemptCancelled(**story.attempt(2, 3, 9), may_have_cost=False)
    ended = JobFailed(
        **story.job(4, "failed", 10),
        kind=FailureKind.NO_ROUTE,
        message="no",
        attempts=(attempt_outcome(story.job_id, 2),),
    )
    stopped_body, ended_body = (json.loads(message.model_dump_json()) for message in (stopped, ended))
    ended_body["attempts"][0]["n"] = 2.0
    batch = [
        deliver(stopped, value=json.dumps(stopped_body | {"version": 3.0, "late": late}).encode()),
        deliver(ended, value=json.dumps(ended_body | {"version": 4.0}).encode()),
    ]
    await store.store(batch)
    first, last = await pool.fetch("SELECT version, late, answers_to FROM v_job_log ORDER BY time")
    [message] = [each.message for each in batch if isinstance(each.message, AttemptCancelled)]
    assert tuple(first) == (3, message.late, None)
    assert tuple(last) == (4, False, 2)
