"""The breakers in PostgreSQL, which all replicas of an adapter share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.builders import changed, claim_nothing, queued_attempt

import adapter_kit
from adapter_kit.attempt.actions import Post
from adapter_kit.attempt.inputs import CalledBack, CancelWanted, Checked, Input, SubmitAnswered
from adapter_kit.attempt.model import Attempt
from adapter_kit.breaker.policy import THRESHOLD, Limits
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.engine.command_handler import CommandHandler
from adapter_kit.engine.ledger import Stepped
from adapter_kit.engine.rows import dump
from adapter_kit.port.outcomes import (
    Accepted,
    Broken,
    CallbackRefused,
    Failure,
    KeyAccepted,
    NotSent,
    Output,
    ProbeOutcome,
    Produced,
    ProviderRef,
    Refused,
    Throttled,
    Unclear,
)
from adapter_kit.settings import AdapterSettings
from chassis.delivery.handling import Delivered
from chassis.kafka.outbox import Outbox
from chassis.observability.telemetry import make_telemetry
from chassis.postgres.pool import Pool, migrate, open_pool
from chassis.runtime.runtime import Runtime
from contracts.failures import FailureKind
from contracts.ids import job_id_for
from contracts.messages.commands import ResolveAttempt

FREE = BreakerStore(Limits(), open_s=5)
NO_CREDIT = Failure(FailureKind.INSUFFICIENT_BALANCE, "no credit", http_status=403)


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await migrate(database_url, "fal_adapter", adapter_kit)
    async with open_pool(database_url, "fal_adapter", max_size=4) as opened:
        yield opened


@pytest.fixture
def outbox(pool: Pool) -> Outbox:
    # Its publisher is not running: the rows stay in the outbox.
    runtime = Runtime("fal-adapter", make_telemetry("fal-adapter", None))
    return Outbox(pool, cast("Any", None), cast("Any", runtime))


async def queue(
    outbox: Outbox, names: list[str], endpoint: str = "test/model", *, expects_callback: bool = False
) -> None:
    async with outbox.transaction() as transaction:
        attempts = [
            queued_attempt(
                job_id_for("default", name), transaction.now, endpoint=endpoint, expects_callback=expects_callback
            )
            for name in names
        ]
        await ledger.create(transaction, [(attempt, None) for attempt in attempts])


async def claim(outbox: Outbox, breakers: BreakerStore = FREE) -> list[Stepped]:
    async with outbox.transaction() as transaction:
        return await ledger.claim(transaction, 100, breakers)


async def answer(outbox: Outbox, stepped: Stepped, outcome: Any, breakers: BreakerStore = FREE) -> Stepped:
    return await take(outbox, stepped.attempt, SubmitAnswered(stepped.attempt.submissions, outcome), breakers)


async def take(outbox: Outbox, attempt: Attempt, input_: Input, breakers: BreakerStore = FREE) -> Stepped:
    async with outbox.transaction() as transaction:
        after, changes = await ledger.apply(transaction, [(attempt.attempt_id, input_)])
        await breakers.record(transaction, changes)
    return after[attempt.attempt_id]


async def record_free_probe(outbox: Outbox, breakers: BreakerStore, outcome: ProbeOutcome) -> bool:
    async with outbox.transaction() as transaction:
        now = transaction.now
        return await breakers.record_probe(transaction.connection, outcome, now, now)


async def test_an_empty_account_opens_the_breaker_of_the_provider(outbox: Outbox) -> None:
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    await answer(outbox, first, Refused(NO_CREDIT))
    await queue(outbox, ["second"], endpoint="another/model")
    (second,) = await claim(outbox)
    assert second.action is None
    assert second.attempt.failure is not None
    assert second.attempt.failure.kind is FailureKind.UNAVAILABLE
    assert "no credit" in second.attempt.failure.message


async def test_a_retired_model_opens_the_breaker_of_its_endpoint_only(outbox: Outbox) -> None:
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    await answer(outbox, first, Refused(Failure(FailureKind.MODEL_NOT_FOUND, "no such app", http_status=404)))
    await queue(outbox, ["same"])
    await queue(outbox, ["other"], endpoint="another/model")
    states = {stepped.attempt.endpoint: stepped.attempt.state.name for stepped in await claim(outbox)}
    assert states == {"test/model": "failed", "another/model": "submitting"}


UNKNOWN = Failure(FailureKind.UNKNOWN, "something new", http_status=400)


async def test_errors_about_one_request_never_open_a_breaker(outbox: Outbox) -> None:
    await queue(outbox, [f"odd {n}" for n in range(2 * THRESHOLD)])
    kinds = [FailureKind.UNKNOWN, FailureKind.CONTENT_POLICY, FailureKind.INVALID_INPUT, FailureKind.CALLBACK_REFUSED]
    for n, stepped in enumerate(await claim(outbox)):
        await answer(outbox, stepped, Refused(replace(UNKNOWN, kind=kinds[n % len(kinds)])))
    await queue(outbox, ["next"])
    (following,) = await claim(outbox)
    assert isinstance(following.action, Post)


async def test_provider_errors_in_a_row_open_the_breaker(outbox: Outbox) -> None:
    await queue(outbox, [f"failing {n}" for n in range(THRESHOLD)])
    for stepped in await claim(outbox):
        await answer(outbox, stepped, Refused(replace(UNKNOWN, kind=FailureKind.PROVIDER_ERROR)))
    await queue(outbox, ["next"])
    (following,) = await claim(outbox)
    assert following.action is None


async def test_a_refused_callback_is_sent_again_at_once_without_one(outbox: Outbox) -> None:
    await queue(outbox, ["first"], expects_callback=True)
    (first,) = await claim(outbox)
    refused = await answer(outbox, first, CallbackRefused(replace(UNKNOWN, kind=FailureKind.CALLBACK_REFUSED)))
    assert (refused.attempt.state.name, refused.attempt.expects_callback) == ("queued", False)
    (again,) = await claim(outbox)
    assert again.action == Post(2)


async def test_unclear_answers_in_a_row_open_the_breaker_of_the_endpoint(outbox: Outbox) -> None:
    await queue(outbox, [f"lost {n}" for n in range(THRESHOLD)])
    for stepped in await claim(outbox):
        await answer(outbox, stepped, Unclear("502 bad gateway"))
    await queue(outbox, ["next"])
    await queue(outbox, ["other"], endpoint="another/model")
    new = {job_id_for("default", name) for name in ("next", "other")}
    claimed = [stepped.attempt for stepped in await claim(outbox) if stepped.attempt.job_id in new]
    states = {attempt.endpoint: attempt.state.name for attempt in claimed}
    assert states == {"test/model": "failed", "another/model": "submitting"}


async def test_an_open_breaker_admits_one_probe_and_closes_on_its_success(outbox: Outbox) -> None:
    eager = BreakerStore(Limits(), open_s=0.000_001)
    await queue(outbox, ["first"])
    (first,) = await claim(outbox, eager)
    await answer(outbox, first, Refused(NO_CREDIT), eager)
    await record_free_probe(outbox, eager, KeyAccepted())
    await queue(outbox, ["probe", "behind"])
    posted = [stepped for stepped in await claim(outbox, eager) if isinstance(stepped.action, Post)]
    assert len(posted) == 1
    await answer(outbox, posted[0], Accepted(ProviderRef("run-1", {})), eager)
    await queue(outbox, ["after"])
    (after,) = await claim(outbox, eager)
    assert isinstance(after.action, Post)


async def test_attempts_beyond_the_concurrency_limit_stay_queued(outbox: Outbox) -> None:
    two = BreakerStore(Limits(concurrent=2), open_s=5)
    await queue(outbox, [f"job-{n}" for n in range(5)])
    claimed = await claim(outbox, two)
    assert sorted(stepped.attempt.state.name for stepped in claimed) == ["queued"] * 3 + ["submitting"] * 2
    assert await claim(outbox, two) == []


async def test_throttling_delays_the_next_attempt_too(outbox: Outbox) -> None:
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    throttled = Throttled(Failure(FailureKind.RATE_LIMITED, "slow down", http_status=429), 10)
    await answer(outbox, first, throttled)
    await queue(outbox, ["second"])
    (second,) = await claim(outbox)
    assert (second.attempt.state.name, second.action) == ("queued", None)


async def test_throttling_without_a_retry_time_is_shown_as_the_last_error(outbox: Outbox, pool: Pool) -> None:
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    await answer(outbox, first, Throttled(Failure(FailureKind.RATE_LIMITED, "slow down", http_status=429), None))
    row = await pool.fetchrow("SELECT state, error_kind, error, blocked_until FROM v_gates WHERE scope = ''")
    assert row is not None
    assert tuple(row) == ("closed", "rate_limited", "slow down", None)


async def test_the_health_view_follows_the_breaker(outbox: Outbox, pool: Pool) -> None:
    await pool.execute("INSERT INTO health (provider, status, since, checked_at) VALUES ('fal', 'ok', now(), now())")
    assert await pool.fetchval("SELECT status FROM v_health") == "ok"
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    await answer(outbox, first, Refused(NO_CREDIT))
    row = await pool.fetchrow("SELECT status, error FROM v_health")
    assert row is not None
    assert (row["status"], row["error"]) == ("fail", "no credit")


RETIRED = Failure(FailureKind.MODEL_NOT_FOUND, "no such app", http_status=404)


async def probing(outbox: Outbox, pool: Pool, lease_s: float = 60) -> tuple[BreakerStore, Stepped]:
    """A store whose endpoint's breaker was opened, and the attempt that it admitted as the probe."""
    eager = BreakerStore(Limits(), open_s=0.000_001, probe_lease_s=lease_s)
    await queue(outbox, ["first"])
    (first,) = await claim(outbox, eager)
    await answer(outbox, first, Refused(RETIRED), eager)
    await queue(outbox, ["probe"])
    (probe,) = await claim(outbox, eager)
    assert isinstance(probe.action, Post)
    return eager, probe


async def is_admitted(outbox: Outbox, breakers: BreakerStore, name: str) -> bool:
    await queue(outbox, [name])
    (one,) = await claim(outbox, breakers)
    return isinstance(one.action, Post)


async def test_an_accepted_probe_is_the_only_one_while_it_may_run(outbox: Outbox, pool: Pool) -> None:
    eager, probe = await probing(outbox, pool, lease_s=0.000_001)
    await answer(outbox, probe, Accepted(ProviderRef("run-1", {})), eager)
    assert not await is_admitted(outbox, eager, "behind")


STATE = "SELECT state FROM breakers WHERE scope = 'test/model'"


async def test_a_callback_with_the_outputs_of_the_probe_closes_the_breaker(outbox: Outbox, pool: Pool) -> None:
    eager, probe = await probing(outbox, pool, lease_s=0.000_001)
    ref = ProviderRef("run-1", {})
    await answer(outbox, probe, Accepted(ref), eager)
    assert await pool.fetchval(STATE) != "closed"
    with_outputs = CalledBack(ref, Produced((Output("https://files.example/a.wav"),)))
    await take(outbox, probe.attempt, with_outputs, eager)
    assert await pool.fetchval(STATE) == "closed"


async def test_after_a_probe_that_had_ended_before_its_answer_came_another_one_is_admitted_at_once(
    outbox: Outbox, pool: Pool
) -> None:
    eager, probe = await probing(outbox, pool)
    ref = ProviderRef("run-1", {})
    await take(outbox, probe.attempt, CalledBack(ref), eager)
    broken = Broken(Failure(FailureKind.MODEL_ERROR, "out of memory"), may_have_cost=True)
    ended = await take(outbox, probe.attempt, Checked(broken, ref, datetime.now(UTC)), eager)
    assert ended.attempt.final
    await answer(outbox, probe, Accepted(ref), eager)
    assert await is_admitted(outbox, eager, "next")


async def test_after_an_unclear_answer_and_an_expired_lease_another_probe_is_admitted(
    outbox: Outbox, pool: Pool
) -> None:
    eager, probe = await probing(outbox, pool, lease_s=0.000_001)
    await answer(outbox, probe, Unclear("no answer in time"), eager)
    assert await is_admitted(outbox, eager, "behind")


async def test_after_a_probe_whose_cancel_is_never_confirmed_another_one_is_admitted_at_once(
    outbox: Outbox, pool: Pool
) -> None:
    eager, probe = await probing(outbox, pool)
    attempt_id = probe.attempt.attempt_id
    await answer(outbox, probe, Accepted(ProviderRef("run-1", {})), eager)
    async with outbox.transaction() as transaction:
        stepped, _ = await ledger.apply(transaction, [(attempt_id, CancelWanted("client"))])
    long_ago = probe.attempt.created_at - timedelta(hours=1)
    overdue = dump(changed(stepped[attempt_id].attempt, cancel_sent_at=long_ago, deadline_at=long_ago))
    await pool.execute("UPDATE attempts SET body = $2::text::jsonb WHERE attempt_id = $1", attempt_id, overdue)
    [ended] = await claim(outbox, eager)
    assert (ended.attempt.state.name, ended.ended) == ("cancelled", True)
    assert await is_admitted(outbox, eager, "next")


async def test_after_a_probe_that_an_operator_calls_never_accepted_another_one_is_admitted_at_once(
    outbox: Outbox, pool: Pool, database_url: str
) -> None:
    eager, probe = await probing(outbox, pool)
    # The process that sent the probe dies before it has an answer.
    await pool.execute("UPDATE attempts SET next_action_at = now() WHERE attempt_id = $1", probe.attempt.attempt_id)
    [lost] = await claim(outbox, eager)
    assert lost.attempt.state.name == "ambiguous"
    assert not await is_admitted(outbox, eager, "behind")
    await resolve(outbox, eager, lost.attempt, database_url)
    assert await is_admitted(outbox, eager, "next")


async def resolve(outbox: Outbox, breakers: BreakerStore, attempt: Attempt, database_url: str) -> None:
    """An operator reports that the provider never accepted the attempt."""
    settings = AdapterSettings(KAFKA_BOOTSTRAP_SERVERS="a:9092", DATABASE_URL=database_url, _env_file=None)
    nothing: Any = None
    handler = CommandHandler("fal", settings, outbox, claim_nothing, nothing, breakers, results_kept_s=3_600)
    never_accepted = ResolveAttempt(
        job_id=attempt.job_id,
        occurred_at=datetime.now(UTC),
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        provider_ref=None,
    )
    await handler([Delivered(never_accepted, "event", None, nothing)])


async def test_after_a_throttled_probe_another_one_is_admitted_at_once(outbox: Outbox, pool: Pool) -> None:
    eager, probe = await probing(outbox, pool)
    assert not await is_admitted(outbox, eager, "behind")
    throttled = Throttled(Failure(FailureKind.RATE_LIMITED, "slow down", http_status=429), 3_600)
    assert (await answer(outbox, probe, throttled, eager)).attempt.state.name == "failed"
    await pool.execute("UPDATE breakers SET blocked_until = NULL")
    assert await is_admitted(outbox, eager, "next")


async def test_an_accepted_key_makes_an_open_breaker_due_for_one_paid_probe(outbox: Outbox) -> None:
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    await answer(outbox, first, Refused(Failure(FailureKind.UNAUTHORIZED, "401", http_status=401)))
    assert await record_free_probe(outbox, FREE, KeyAccepted())
    await queue(outbox, ["probe", "behind"])
    assert sorted(type(stepped.action).__name__ for stepped in await claim(outbox)) == ["NoneType", "Post"]


@pytest.mark.parametrize("held_up", [False, True])
async def test_a_probe_that_could_not_be_sent_opens_the_breaker_again(
    outbox: Outbox, pool: Pool, held_up: bool
) -> None:
    await queue(outbox, ["first"])
    (first,) = await claim(outbox)
    await answer(outbox, first, Refused(NO_CREDIT))
    await record_free_probe(outbox, FREE, KeyAccepted())
    await pool.execute("UPDATE breakers SET open_until = now()")
    await queue(outbox, ["probe"])
    (probe,) = await claim(outbox)
    assert isinstance(probe.action, Post)
    assert (await answer(outbox, probe, NotSent("ConnectTimeout", held_up=held_up))).attempt.state.name == "queued"
    await queue(outbox, ["next"])
    # On a slow machine the first probe is due again by now, and is admitted in place of the next attempt.
    admitted = [each for each in await claim(outbox) if isinstance(each.action, Post)]
    assert len(admitted) == held_up, "our own delay says nothing about the provider"
