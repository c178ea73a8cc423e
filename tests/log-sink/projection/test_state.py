"""The tables and views that the store derives from events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import attempt_outcome

from chassis.delivery.consumer import Delivered
from chassis.observability.telemetry import trace_id_of
from chassis.postgres.pool import Pool
from contracts.failures import FailureKind
from contracts.messages.attempts import (
    AttemptAmbiguous,
    AttemptCancelled,
    AttemptEvent,
    AttemptFailed,
    AttemptProgressed,
    AttemptSubmitting,
    AttemptSucceeded,
)
from contracts.messages.base import Message
from contracts.messages.jobs import JobAccepted, JobCancelled, JobFailed
from contracts.messages.requests import CancelRequested
from contracts.messages.wording import describe
from log_sink.app import CONSUMED
from log_sink.store import Store
from read_model.merge import State, rows_of, with_reports
from read_model.rows_from_events import reports
from read_model.tables import STATE

pytestmark = pytest.mark.asyncio(loop_scope="session")

BEGIN = datetime(2026, 3, 10, 12, tzinfo=UTC)
EXAMPLES = Path(__file__).parents[3] / "contracts" / "examples"


async def one(pool: Pool, view: str, where: str = "true") -> dict[str, Any]:
    found = await pool.fetch(f"SELECT * FROM {view} WHERE {where}")  # noqa: S608
    assert len(found) == 1
    return dict(found[0])


async def test_the_views_show_a_rerouted_job(pool: Pool, store: Store, deliver: Any, story: Any) -> None:
    messages = story.messages()
    await store.store([deliver(message) for message in messages])

    job = await one(pool, "v_jobs")
    assert {k: job[k] for k in ("status", "provider", "model", "version", "cost_usd", "error")} == {
        "status": "succeeded",
        "provider": "replicate",
        "model": "music/minimax-2",
        "version": 4,
        "cost_usd": 0.03,
        "error": None,
    }
    assert job["input"]["prompt"] == "Warm ambient pad"
    assert job["metadata"] == {"scene": "intro"}
    assert [route["provider"] for route in job["plan"]] == ["fal", "replicate"]
    assert job["deadline_at"] == messages[1].deadline_at
    assert (job["requested_at"], job["started_at"]) == (messages[0].occurred_at, messages[9].occurred_at)
    assert job["finished_at"] == job["updated_at"] == messages[-1].occurred_at

    refused = await one(pool, "v_attempts", "n = 1")
    assert (refused["state"], refused["error_kind"], refused["error_code"]) == ("failed", "insufficient_balance", "403")
    assert (refused["accepted"], refused["http_status"]) == (False, 403)
    made = await one(pool, "v_attempts", "n = 2")
    assert (made["state"], made["provider_ref"], made["accepted"]) == ("succeeded", "r8-1", True)
    assert (made["submitting_at"], made["submitted_at"]) == (messages[5].occurred_at, messages[8].occurred_at)
    assert made["queue_position"] is None

    track = await one(pool, "v_tracks")
    assert (track["provider"], track["model"], track["duration_s"]) == ("replicate", "music/minimax-1.5", 20.1)
    assert (track["artifact_name"], track["status"]) == ("track.mp3", "succeeded")
    files = await pool.fetch("SELECT name, late FROM v_artifacts ORDER BY name")
    assert [tuple(file) for file in files] == [("cover.png", False), ("track.mp3", False)]


async def test_the_log_tells_it_in_order(pool: Pool, store: Store, deliver: Any, story: Any) -> None:
    messages = story.messages()
    for message in reversed(messages):
        await store.store([deliver(message)])

    log = await pool.fetch("SELECT * FROM v_job_log WHERE job_id = $1 ORDER BY time, seq", story.job_id)
    assert [line["type"] for line in log] == [message.TYPE for message in messages]
    assert [line["message"] for line in log] == [describe(message) for message in messages]
    refusal = log[3]
    assert (refusal["event"], refusal["provider"], refusal["attempt"]) == ("attempt.failed", "fal", 1)
    assert (refusal["error_code"], refusal["track_id"]) == ("403", story.track_id)


async def test_the_log_has_the_columns_that_define_its_order(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    messages = story.messages()
    outcomes = [attempt_outcome(story.job_id, n, outcome=outcome) for n, outcome in ((1, "failed"), (2, "live"))]
    job_ends = [
        JobFailed(**story.job(5, "failed", 20), kind=FailureKind.EXPIRED, message="late", attempts=tuple(outcomes)),
        JobCancelled(**story.job(6, "cancelled", 21), effect="never_sent", attempts=tuple(outcomes[:1])),
        JobCancelled(**story.job(7, "cancelled", 22), effect="never_sent"),
    ]
    late = AttemptSucceeded(**story.attempt(1, 3, 60), artifacts=messages[-1].artifacts, late=True)
    await store.store([deliver(message) for message in [*messages, *job_ends[:2], late]])
    await store.store([deliver(job_ends[2], ce_id="another")])
    log = await pool.fetch("SELECT event, version, answers_to, late, provider_ref FROM v_job_log ORDER BY time, seq")
    assert [tuple(line) for line in log if line["event"].startswith("job.")] == [
        ("job.requested", None, None, False, None),
        ("job.accepted", 1, None, False, None),
        ("job.rerouted", 2, 1, False, None),
        ("job.started", 3, None, False, None),
        ("job.succeeded", 4, 2, False, None),
        ("job.failed", 5, None, False, None),
        ("job.cancelled", 6, 1, False, None),
        ("job.cancelled", 7, None, False, None),
    ]
    assert [tuple(line)[1:] for line in log if line["event"] == "attempt.succeeded"] == [
        (6, None, False, "r8-1"),
        (3, None, True, None),
    ]


@pytest.mark.parametrize(
    ("kind", "accepted", "cost_usd", "expected_usd"),
    [
        (FailureKind.RATE_LIMITED, False, None, 0.0),
        (FailureKind.AMBIGUOUS_SUBMISSION, False, None, None),
        (FailureKind.MODEL_ERROR, True, None, None),
        (FailureKind.MODEL_ERROR, True, 0.2, 0.2),
    ],
)
async def test_the_cost_of_a_failed_attempt_depends_on_its_kind(
    pool: Pool, store: Store, deliver: Any, story: Any, kind: FailureKind, *, accepted: bool,
    cost_usd: float | None, expected_usd: float | None,
) -> None:  # fmt: skip
    failed = {"kind": kind, "message": "no", "accepted": accepted, "cost_usd": cost_usd}
    await store.store([deliver(AttemptFailed(**story.attempt(1, 1, 1), **failed))])
    assert (await one(pool, "v_attempts"))["cost_usd"] == expected_usd


async def test_a_reroute_is_logged_with_the_code_and_status_of_the_provider(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    moved = story.messages()[4]
    await store.store([deliver(moved)])
    line = await one(pool, "v_job_log")
    assert (line["error_code"], line["error_kind"], line["http_status"]) == (moved.kind, moved.kind, None)
    await pool.execute("TRUNCATE events")
    await store.store([deliver(moved.model_copy(update={"error_code": "403", "http_status": 403}))])
    line = await one(pool, "v_job_log")
    assert (line["error_code"], line["error_kind"], line["http_status"]) == ("403", moved.kind, 403)


async def test_a_job_is_shown_before_its_request_has_arrived(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    accepted = story.messages()[1]
    await store.store([deliver(accepted)])

    job = await one(pool, "v_jobs")
    assert (job["requested_at"], job["provider"], job["model"]) == (accepted.occurred_at, "fal", "music/minimax-2")


async def test_an_attempt_that_succeeded_with_fewer_files_has_a_message(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    *before, made = [message for message in story.messages() if isinstance(message, AttemptEvent)]
    missing = "1 of 3 outputs could not be had: output 2: 404"
    await store.store([deliver(message) for message in [*before, made.model_copy(update={"missing": missing})]])
    attempt = await one(pool, "v_attempts", f"n = {made.n}")
    assert (attempt["state"], attempt["message"]) == ("succeeded", missing)


async def test_a_late_result_does_not_become_the_jobs(pool: Pool, store: Store, deliver: Any, story: Any) -> None:
    messages = story.messages()
    late = AttemptSucceeded(**story.attempt(1, 3, 60), artifacts=messages[-1].artifacts, cost_usd=0.5, late=True)
    await store.store([deliver(message) for message in [*messages, late]])

    assert (await one(pool, "v_jobs"))["cost_usd"] == 0.03
    assert (await one(pool, "v_attempts", "n = 1"))["state"] == "succeeded"
    assert (await one(pool, "v_attempts", "n = 1"))["late"]
    assert await pool.fetchval("SELECT count(*) FROM v_artifacts WHERE late") == 2
    assert await pool.fetchval("SELECT attempt_id FROM v_artifacts WHERE NOT late LIMIT 1") == f"{story.job_id}.2"


def cancel_and_late_events(story: Any) -> list[Message]:
    """A cancel that came too late, and late events of the first attempt."""
    known = {"kind": FailureKind.NEVER_ACCEPTED, "message": "an operator looked", "accepted": False, "cost_usd": 0.0}
    return [
        CancelRequested(job_id=story.job_id, tenant=story.tenant, occurred_at=BEGIN + timedelta(seconds=11)),
        AttemptFailed(**story.attempt(1, 3, 50), **known, late=True),
        AttemptCancelled(**story.attempt(1, 4, 60), may_have_cost=False, late=True),
    ]


async def test_a_cancel_is_stored_with_its_job_and_makes_none(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    cancel = cancel_and_late_events(story)[0]
    await store.store([deliver(cancel)])
    assert (await one(pool, "v_jobs"))["track_id"] is None, "a request to cancel alone makes no job"
    messages = story.messages()
    await store.store([deliver(message) for message in messages])
    job = await one(pool, "v_jobs")
    assert (job["status"], job["requested_at"], job["deadline_at"]) == (
        "succeeded", messages[0].occurred_at, messages[1].deadline_at,
    )  # fmt: skip
    assert (job["cancel_asked_at"], job["cancel_effect"]) == (cancel.occurred_at, None)


async def test_a_cancelled_job_keeps_its_effect_and_its_cost(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    outcomes = [
        attempt_outcome(story.job_id, n, outcome="cancelled", cost_usd=cost) for n, cost in ((1, 0.2), (2, 0.0))
    ]
    ended = JobCancelled(**story.job(5, "cancelled", 20), effect="never_sent", attempts=tuple(outcomes))
    await store.store([deliver(message) for message in [*story.messages()[:10], ended]])
    job = await one(pool, "v_jobs")
    assert (job["status"], job["cancel_effect"], job["cost_usd"]) == ("cancelled", "never_sent", 0.2)


async def test_an_attempt_is_ambiguous_until_it_is_settled_and_has_its_deadline(
    pool: Pool, store: Store, deliver: Any, story: Any
) -> None:
    resolve_by = BEGIN + timedelta(minutes=9)
    lost = {"kind": FailureKind.AMBIGUOUS_SUBMISSION, "message": "nobody knows", "accepted": False}
    steps: list[tuple[Message, tuple[str, bool, bool]]] = [
        (AttemptSubmitting(**story.attempt(1, 1, 2)), ("submitting", False, False)),
        (
            AttemptAmbiguous(**story.attempt(1, 2, 3), message="no answer", resolve_by=resolve_by),
            ("ambiguous", True, False),
        ),
        (AttemptFailed(**story.attempt(1, 3, 4), **lost), ("failed", True, False)),
        (AttemptCancelled(**story.attempt(1, 4, 60), may_have_cost=False, late=True), ("cancelled", False, True)),
    ]
    for message, expected in steps:
        await store.store([deliver(message)])
        row = await one(pool, "v_attempts")
        assert (row["state"], row["ambiguous"], row["late"]) == expected
        assert row["first_at"] == steps[0][0].occurred_at
        assert row["resolve_by"] == (resolve_by if row["state"] == "ambiguous" else None)
    assert (row["cost_usd"], row["error_kind"]) == (0.0, None)


@pytest.mark.parametrize(("provider_ref", "accepted"), [("r8-1", True), (None, False)])
async def test_a_run_that_is_found_late_and_stopped_was_accepted(
    pool: Pool, store: Store, deliver: Any, story: Any, provider_ref: str | None, *, accepted: bool
) -> None:
    lost = {"kind": FailureKind.AMBIGUOUS_SUBMISSION, "message": "nobody knows", "accepted": False}
    messages = [
        AttemptSubmitting(**story.attempt(1, 1, 2)),
        AttemptFailed(**story.attempt(1, 2, 4), **lost),
        AttemptCancelled(**story.attempt(1, 3, 60), provider_ref=provider_ref, may_have_cost=True, late=True),
    ]
    await store.store([deliver(message) for message in messages])
    row = await one(pool, "v_attempts")
    assert (row["accepted"], row["cost_usd"], row["submitted_at"]) == (accepted, None, None)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_any_order_any_batches_any_repeats_end_in_the_same_rows(
    pool: Pool, store: Store, deliver: Any, story_of: Any, data: st.DataObject
) -> None:
    stories = [story_of(name) for name in ("one", "two")]
    messages = [message for story in stories for message in [*story.messages(), *cancel_and_late_events(story)]]
    drawn = data.draw(st.lists(st.sampled_from(messages), unique_by=lambda m: m.event_id))
    shuffled = data.draw(
        st.permutations(drawn + data.draw(st.lists(st.sampled_from(drawn), max_size=5)) if drawn else [])
    )

    async def outcome(batches: list[list[Any]]) -> list[Any]:
        await pool.execute("TRUNCATE events, jobs, attempts, tracks, artifacts")
        for batch in filter(None, batches):
            await store.store([deliver(message) for message in batch])
        tables = {table.name: ", ".join(table.keys) for table in STATE} | {"events": "event_id"}
        shown = dict.fromkeys(tables, "*") | {"events": "event_id, type, occurred_at, message, data"}
        return [
            [dict(row) for row in await pool.fetch(f"SELECT {shown[name]} FROM {name} ORDER BY {key}")]  # noqa: S608
            for name, key in tables.items()
        ]

    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))
    batches = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)]
    assert await outcome(batches) == await outcome([[message] for message in drawn])


def further_events(story: Any) -> list[Message]:
    """Other ends of the job, and further events of its attempts."""
    outcomes = tuple(attempt_outcome(story.job_id, n, cost_usd=0.1) for n in (1, 2))
    lost = {"message": "no answer", "resolve_by": BEGIN + timedelta(minutes=9)}
    expired = {"kind": FailureKind.EXPIRED, "message": "too late"}
    return [
        JobFailed(**story.job(5, "failed", 20), **expired, attempts=outcomes, cost_usd=0.2),
        JobCancelled(**story.job(6, "cancelled", -20), effect="may_have_cost", attempts=outcomes),
        JobAccepted(**story.job(7, "queued", 30), plan=(), deadline_at=BEGIN + timedelta(hours=1)),
        AttemptAmbiguous(**story.attempt(1, 5, 70), **lost),
        AttemptProgressed(**story.attempt(1, 6, 1), stage="unreachable", message="no route"),
        # The same request, published again.
        story.requested().model_copy(update={"occurred_at": BEGIN - timedelta(seconds=9), "deadline_at": BEGIN}),
    ]


def in_memory(batch: list[Delivered]) -> State:
    """The rows that the merge in memory makes of the same messages."""
    first = {delivered.event_id: delivered for delivered in reversed(batch)}
    state: State = {}
    for delivered in batch:
        if first[delivered.event_id] is delivered:
            state = with_reports(state, reports(delivered.message, trace_id_of(delivered.traceparent)))
    return state


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_the_merge_in_memory_and_the_tables_agree_on_every_column(
    pool: Pool, store: Store, deliver: Any, story_of: Any, data: st.DataObject
) -> None:
    stories = [story_of(name) for name in ("one", "two")]
    messages = [
        each
        for story in stories
        for each in [*story.messages(), *cancel_and_late_events(story), *further_events(story)]
    ]
    messages.append(story_of("three").requested(model="music/minimax-2", providers=("replicate", "fal")))
    # Each delivery may have its own trace.
    traces = st.sampled_from([None, *(f"00-{n}{'0' * 31}-0123456789abcdef-01" for n in (1, 2))])
    drawn = data.draw(st.lists(st.tuples(st.sampled_from(messages), traces), max_size=60))
    batch = [deliver(message, traceparent=trace) for message, trace in drawn]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=8)))
    await pool.execute("TRUNCATE events, jobs, attempts, tracks, artifacts")
    for first, past in zip([0, *cuts], [*cuts, len(batch)], strict=True):
        await store.store(batch[first:past])
    expected = in_memory(batch)
    for table in STATE:
        names = [*table.keys, *table.names]
        rows = await pool.fetch(f"SELECT {', '.join(names)} FROM {table.name}")  # noqa: S608
        found = {"/".join(row[name] for name in table.keys): dict(row) for row in rows}
        assert found == rows_of(expected, table)


async def test_every_message_type_that_the_sink_reads_has_a_description() -> None:
    for topic in CONSUMED:
        for kind in topic.carries:
            for path in sorted((EXAMPLES / kind.TYPE).iterdir()):
                message = kind.model_validate(json.loads(path.read_text())["value"])
                assert describe(message) not in {"", kind.TYPE}
