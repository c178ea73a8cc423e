"""Rows of the released schema are migrated, and are read with the same values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import asyncpg
import pytest

import adapter_kit
import orchestrator
from adapter_kit.attempt.actions import Cancel, Check, Search
from adapter_kit.attempt.states import Ambiguous, Collecting
from adapter_kit.breaker.policy import Breaker, LastError, Limits
from adapter_kit.breaker.store import PROVIDER, BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.port.outcomes import ProviderRef
from adapter_kit.twins import with_live_twins
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.ids import AttemptId, attempt_id_for, job_id_for
from orchestrator import store

RELEASED = {"adapter_kit": 3, "orchestrator": 3}
"""The number of migrations of each package at the release."""
NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(hours=1)
TRACK = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
VIEWS = ("v_gates", "v_load", "v_callbacks", "v_health")
ATTEMPT: dict[str, Any] = {
    "track_id": TRACK, "n": 1, "provider": "fal", "model": "music/test", "endpoint": "test/model",
    "modality": "music", "arguments": {"prompt": "pad", "seconds": 20.0, "lyrics": None}, "price_usd": None,
    "deadline_at": LATER.isoformat(), "submit_timeout_s": 30.0, "start_within_s": 60.0, "run_within_s": 600.0,
    "grace_s": 240.0, "created_at": NOW.isoformat(), "ambiguity_policy": "hold", "expects_callback": False,
    "called_back": False, "version": 2, "next_action_at": NOW.isoformat(), "submissions": 1,
    "submit_started_at": NOW.isoformat(), "accepted_at": None, "started_at": None, "ended_at": None, "ref": None,
    "claim": None, "outputs": [], "stage": None, "queue_position": None, "tries": 0, "resolve_by": None,
    "heard_at": None, "deaf_s": 0.0, "cancel_reason": None, "cancel_sent_at": None, "cancel_answered": False,
    "failure": None, "held_back": False, "unsettled": False, "follow_up": None, "follow_up_until": None,
}  # fmt: skip
ATTEMPTS: dict[str, dict[str, Any]] = {
    "queued": {"state": "queued", "held_back": True},
    "ambiguous": {
        "state": "ambiguous", "resolve_by": LATER.isoformat(), "heard_at": NOW.isoformat(), "deaf_s": 12.5,
    },
    "lost": {
        "state": "failed", "follow_up": "search", "follow_up_until": LATER.isoformat(), "unsettled": True,
        "resolve_by": LATER.isoformat(), "ended_at": NOW.isoformat(),
        "failure": {"kind": "ambiguous_submission", "message": "no answer", "code": None, "http_status": None},
    },
    "called": {
        "state": "collecting", "expects_callback": True, "called_back": True, "accepted_at": NOW.isoformat(),
        "ref": {"request_id": "r-1", "urls": {}},
    },
    "stopped": {
        "state": "collecting", "expects_callback": True, "accepted_at": NOW.isoformat(), "cancel_reason": "client",
        "ref": {"request_id": "r-2", "urls": {}},
    },
    "claimed": {
        "state": "failed", "follow_up": "watch", "follow_up_until": LATER.isoformat(), "unsettled": True,
        "resolve_by": LATER.isoformat(), "ended_at": NOW.isoformat(), "cancel_answered": True,
        "claim": {"request_id": "r-3", "urls": {}},
        "failure": {"kind": "ambiguous_submission", "message": "no answer", "code": None, "http_status": None},
    },
    "watched": {
        "state": "cancelled", "follow_up": "watch", "follow_up_until": LATER.isoformat(), "unsettled": True,
        "ended_at": NOW.isoformat(), "cancel_reason": "deadline", "cancel_sent_at": NOW.isoformat(),
        "accepted_at": NOW.isoformat(), "ref": {"request_id": "r-4", "urls": {}},
    },
    "cancelling": {
        "state": "cancelling", "cancel_reason": "run_timeout", "cancel_sent_at": NOW.isoformat(), "stage": "running",
        "accepted_at": NOW.isoformat(), "started_at": NOW.isoformat(), "ref": {"request_id": "r-5", "urls": {}},
    },
}  # fmt: skip
ERROR = {"kind": "unauthorized", "message": "401", "at": NOW.isoformat()}
BREAKERS: dict[str, dict[str, Any]] = {
    "": {
        "state": "open", "failures": 1, "openings": 2, "opened_at": NOW.isoformat(), "open_until": LATER.isoformat(),
        "shut_for": "unauthorized", "error": "401", "last_error": ERROR, "asked_at": NOW.isoformat(),
        "hurried": True, "tokens": 1.5, "tokens_at": NOW.isoformat(),
    },
    "slow/model": {"blocked_until": LATER.isoformat(), "last_error": ERROR},
    "half/model": {"state": "half_open", "probe_at": NOW.isoformat(), "probe_until": LATER.isoformat()},
    "new/model": {},
}  # fmt: skip


def attempt(name: str) -> AttemptId:
    return attempt_id_for(job_id_for("default", name), 1)


def run(n: int) -> ProviderRef:
    return ProviderRef(f"r-{n}", {})


CANDIDATE = {
    "provider": "fal", "model": "music/test", "endpoint": "test/model", "substitute": False, "modality": "music",
    "arguments": {"prompt": "pad", "lyrics": None}, "start_within_s": 60.0, "run_within_s": 600.0, "price_usd": None,
}  # fmt: skip
SKIPPED = {"provider": "replicate", "model": "music/test", "endpoint": "other/model", "reason": "too dear"}
JOB: dict[str, Any] = {
    "job_id": job_id_for("default", "job"), "track_id": TRACK, "tenant": "default", "fingerprint": "f",
    "deadline_at": LATER.isoformat(),
    "created_at": NOW.isoformat(), "ambiguity_policy": "hold", "legs": [CANDIDATE, CANDIDATE, CANDIDATE],
    "ahead": [2], "unwell": [1], "at_leg": 0, "retry_at": None, "skipped": [SKIPPED], "untold": [SKIPPED],
    "max_cost_usd": None, "state": "running", "version": 3, "next_action_at": NOW.isoformat(),
    "attempts": [{"attempt_id": attempt("job"), "n": 1, "provider": "fal", "outcome": "live"}], "ordered": 1,
    "cancel_requested": False, "kind": None,
}  # fmt: skip


def released(package: ModuleType, folder: Path) -> ModuleType:
    """A package with the migrations that the given one had at the release."""
    kept = sorted((Path(package.__path__[0]) / "migrations").glob("*.sql"))[: RELEASED[package.__name__]]
    (folder / "migrations").mkdir(parents=True)
    for each in kept:
        shutil.copy(each, folder / "migrations")
    (folder / "__init__.py").touch()
    spec = spec_from_file_location("released", folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    return module_from_spec(spec)


async def fill(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    for name, its in ATTEMPTS.items():
        body = ATTEMPT | {"attempt_id": attempt(name), "job_id": job_id_for("default", name)} | its
        await connection.execute(
            "INSERT INTO attempts (attempt_id, job_id, state, version, next_action_at, body)"
            " VALUES ($1, $2, $3, 2, now(), $4::text::jsonb)",
            body["attempt_id"], body["job_id"], body["state"], json.dumps(body),
        )  # fmt: skip
    for scope, its in BREAKERS.items():
        body = {"scope": scope, "since": NOW.isoformat()} | its
        await connection.execute(
            "INSERT INTO gates (scope, body) VALUES ($1, $2::text::jsonb)", scope, json.dumps(body)
        )
    await connection.execute("INSERT INTO health VALUES ('fal', 'ok', NULL, now(), now(), 2, 6)")


async def shown(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, Sequence[dict[str, Any]]]:
    """The rows of each view."""
    return {
        view: sorted((dict(row) for row in await connection.fetch(f"SELECT * FROM {view}")), key=str)  # noqa: S608
        for view in VIEWS
    }


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("fal-adapter", make_telemetry("fal-adapter", None))


def without_new_columns(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "fetches_failing"}


async def test_attempts_and_breakers_of_the_release_are_carried_over(
    database_url: str, tmp_path: Path, runtime: Runtime
) -> None:
    await migrate(database_url, "fal_adapter", released(adapter_kit, tmp_path / "released"))
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "fal_adapter"})
    await fill(connection)
    before = await shown(connection)
    assert all(before.values())
    await migrate(database_url, "fal_adapter", adapter_kit)
    after = await shown(connection)
    assert {view: list(map(without_new_columns, rows)) for view, rows in after.items()} == before
    assert {row["fetches_failing"] for row in after["v_load"]} == {0}
    views = await connection.fetch("SELECT definition FROM pg_views WHERE schemaname = 'fal_adapter'")
    assert [view["definition"] for view in views if "->" in view["definition"]] == []
    await connection.close()
    breakers = BreakerStore(Limits(), open_s=5)
    async with open_pool(database_url, "fal_adapter", max_size=2) as pool:
        outbox = Outbox(pool, cast("Any", None), cast("Any", runtime))
        ended = [attempt("lost"), attempt("stopped")]
        assert await with_live_twins(pool, ended) == set(ended)
        async with outbox.transaction() as transaction:
            locked = await breakers.lock(transaction, ["new/model"])
            assert locked.breaker(PROVIDER) == Breaker(
                scope=PROVIDER, since=NOW, state="open", failures=1, openings=2, opened_at=NOW, open_until=LATER,
                shut_for=FailureKind.UNAUTHORIZED, asked_at=NOW, hurried=True, tokens=1.5, tokens_at=NOW,
                error="401", last_error=LastError(FailureKind.UNAUTHORIZED, "401", NOW),
            )  # fmt: skip
            assert locked.breaker("new/model") == Breaker("new/model", NOW)
        async with outbox.transaction() as transaction:
            at = transaction.now
            stepped = {each.attempt.attempt_id: each for each in await ledger.claim(transaction, 10, breakers)}
        assert stepped.keys() == {attempt(name) for name in ATTEMPTS}
        assert {name: stepped[attempt(name)].action for name in ATTEMPTS} == {
            "queued": None, "ambiguous": Search(at), "lost": Search(at), "called": Check(run(1), at),
            "stopped": Check(run(2), at), "claimed": Check(run(3), at), "watched": Cancel(run(4), at),
            "cancelling": Cancel(run(5), at),
        }  # fmt: skip
        ambiguous = stepped[attempt("ambiguous")].attempt.state
        assert isinstance(ambiguous, Ambiguous)
        assert (ambiguous.lost.listing_downtime_s, ambiguous.lost.listing_answered_at) == (12.5, NOW)
        assert stepped[attempt("queued")].attempt.arguments == ATTEMPT["arguments"]
        for name in ("called", "stopped"):
            collecting = stepped[attempt(name)].attempt.state
            assert isinstance(collecting, Collecting)
            assert collecting.fetch_by == LATER  # The release, too, buys no other run before the deadline.


async def test_a_job_of_the_release_is_carried_over(database_url: str, tmp_path: Path, runtime: Runtime) -> None:
    await migrate(database_url, "orchestrator", released(orchestrator, tmp_path / "released"))
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "orchestrator"})
    await connection.execute(
        "INSERT INTO jobs (job_id, state, version, next_action_at, body)"
        " VALUES ($1, 'running', 3, now(), $2::text::jsonb)",
        JOB["job_id"],
        json.dumps(JOB),
    )
    await migrate(database_url, "orchestrator", orchestrator)
    assert await connection.fetchval("SELECT deadline_at FROM jobs") == LATER
    await connection.close()
    async with open_pool(database_url, "orchestrator", max_size=2) as pool:
        outbox = Outbox(pool, cast("Any", None), cast("Any", runtime))
        async with outbox.transaction() as transaction:
            job = (await store.load(transaction, [JOB["job_id"]]))[JOB["job_id"]].job
            await store.save(transaction, {job.job_id: store.Stored(job, None)})
    assert (len(job.candidates), job.remaining, job.unavailable, job.current) == (3, (2,), (1,), 0)
    assert job.candidates[0].arguments == CANDIDATE["arguments"]
    assert [each.reason for each in job.unreported] == ["too dear"]
