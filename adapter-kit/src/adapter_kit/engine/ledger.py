"""The ledger: attempts in PostgreSQL, changed by `step` only, under a row lock, in a transaction with its events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg
from pydantic import JsonValue, TypeAdapter

from adapter_kit.attempt.actions import Action
from adapter_kit.attempt.inputs import Input
from adapter_kit.attempt.machine import step
from adapter_kit.attempt.model import LEASE_S, Attempt, Step
from adapter_kit.attempt.running import unchecked_until
from adapter_kit.attempt.states import Queued
from adapter_kit.breaker.store import BreakerStore, Change, LockedBreakers, admission
from adapter_kit.engine.rows import dump, load
from adapter_kit.engine.telemetry import report_ambiguity, report_late
from adapter_kit.late_commands import HOLD_S, Holds, unless_held
from adapter_kit.log_events import LedgerEvent
from adapter_kit.port.outcomes import ProviderRef
from adapter_kit.reports import report_step
from chassis.kafka.outbox import Transaction
from chassis.observability.logs import get_logger
from chassis.postgres.limits import LOOP_LIMIT_S, bounded
from chassis.postgres.pool import Pool
from contracts.ids import AttemptId
from contracts.messages.attempts import AttemptState

_ARGUMENTS: Final = TypeAdapter(Mapping[str, JsonValue])

POSTPONE_S: Final = 60.0
_log = get_logger("adapter_kit.engine.ledger")

Reading = Callable[[Attempt], Input]
"""Returns the input for an attempt from its row, which is locked."""

Lease = tuple[AttemptId, AttemptState]
"""A lease: the attempt, and the state in which it was claimed."""

_CREATE = """
INSERT INTO attempts (attempt_id, job_id, state, version, next_action_at, traceparent, endpoint, deadline_at,
    expects_callback, arguments_hash, body)
SELECT attempt_id, job_id, state, version, next_action_at, traceparent, endpoint, deadline_at, expects_callback,
    sha256(convert_to(arguments::text, 'UTF8')), body
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::text[], $7::text[],
    $8::timestamptz[], $9::bool[], $10::text[]::jsonb[], $11::text[]::jsonb[]) AS new (attempt_id, job_id, state,
    version, next_action_at, traceparent, endpoint, deadline_at, expects_callback, arguments, body)
ON CONFLICT (attempt_id) DO NOTHING
"""
_LOCK = """
SELECT body::text, traceparent, next_action_at FROM attempts
WHERE attempt_id = ANY($1) ORDER BY attempt_id FOR UPDATE
"""
_CLAIM = """
SELECT attempt_id, body::text, traceparent, next_action_at FROM attempts
WHERE next_action_at <= now() ORDER BY next_action_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_SAVE = """
UPDATE attempts SET state = new.state, version = new.version, next_action_at = new.next_action_at,
    provider_ref = new.provider_ref, accepted_at = new.accepted_at, expects_callback = new.expects_callback,
    called_back = new.called_back, cancel_reason = new.cancel_reason, failure_kind = new.failure_kind,
    throttling_reported = new.throttling_reported, check_by = new.check_by, started = new.started,
    failing = new.failing, own_listed_by = coalesce(new.own_listed_by, attempts.own_listed_by),
    body = new.body::jsonb, updated_at = now()
FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::text[], $6::timestamptz[], $7::bool[],
    $8::bool[], $9::text[], $10::text[], $11::bool[], $12::timestamptz[], $13::bool[], $14::text[], $15::timestamptz[],
    $16::text[]) AS new (attempt_id, state, version, next_action_at, provider_ref, accepted_at, expects_callback,
        called_back, cancel_reason, failure_kind, throttling_reported, check_by, started, failing, own_listed_by, body)
WHERE attempts.attempt_id = new.attempt_id
"""
_RENEW = """
UPDATE attempts SET next_action_at = now() + make_interval(secs => $2)
WHERE attempt_id IN (
    SELECT attempt_id FROM attempts WHERE (attempt_id, state) IN (SELECT * FROM unnest($1::text[], $3::text[]))
    AND next_action_at > now() FOR UPDATE SKIP LOCKED
)
RETURNING attempt_id, state
"""
_POSTPONE = """
UPDATE attempts SET next_action_at = now() + make_interval(secs => $2) WHERE attempt_id = ANY($1)
"""
_SECONDS_TO_NEXT = "SELECT extract(epoch FROM min(next_action_at) - now())::float8 FROM attempts"
_OWNERS = "SELECT provider_ref, attempt_id FROM attempts WHERE provider_ref = ANY($1)"
_TAKEN = "SELECT provider_ref FROM attempts WHERE provider_ref IS NOT NULL AND updated_at > $1"


@dataclass(frozen=True, slots=True)
class Stepped:
    """An attempt after a step that is now in the ledger."""

    attempt: Attempt
    traceparent: str | None
    """The trace context of the job, the parent of all spans of the attempt."""
    action: Action | None
    ended: bool
    """The attempt ended in this step."""
    due_in_s: float | None
    """Seconds from the step until the attempt is due again; None if it never is."""


async def create(transaction: Transaction, attempts: Iterable[tuple[Attempt, str | None]]) -> None:
    """Insert new attempts with their trace contexts. Attempts that exist already are unchanged.

    Raises asyncpg.UniqueViolationError if another attempt of the job has not ended.
    """
    rows = list(attempts)
    await transaction.connection.execute(
        _CREATE,
        [a.attempt_id for a, _ in rows],
        [a.job_id for a, _ in rows],
        [a.state.name for a, _ in rows],
        [a.version for a, _ in rows],
        [a.next_action_at for a, _ in rows],
        [traceparent for _, traceparent in rows],
        [a.endpoint for a, _ in rows],
        [a.deadline_at for a, _ in rows],
        [a.expects_callback for a, _ in rows],
        [_ARGUMENTS.dump_json(a.arguments).decode() for a, _ in rows],
        [dump(a) for a, _ in rows],
    )


async def apply(
    transaction: Transaction, inputs: Sequence[tuple[AttemptId, Input | Reading]]
) -> tuple[dict[AttemptId, Stepped], list[Change]]:
    """Step each attempt through its inputs, in order. Returns the attempts after that, without unknown ones.

    The caller records the changes in the breakers, once all attempts of the transaction are locked.
    """
    locked = await transaction.connection.fetch(_LOCK, list({attempt_id for attempt_id, _ in inputs}))
    current = {known.attempt.attempt_id: known for known in (_load(row, transaction.now) for row in locked)}
    changes: list[Change] = []
    for attempt_id, given in inputs:
        if (known := current.get(attempt_id)) is not None:
            input_ = given(known.attempt) if callable(given) else given
            after = current[attempt_id] = _advance(transaction, known, input_)
            changes.append((known.attempt, input_, after.attempt))
    await _save(transaction, current.values())
    return current, changes


async def claim(
    transaction: Transaction, limit: int, breakers: BreakerStore, holds: Holds = lambda _: False
) -> list[Stepped]:
    """Claim up to `limit` due attempts and step them; no two replicas claim the same one.

    Queued attempts are admitted by the breakers first. An attempt that cannot be read or stepped is postponed, and so
    is one whose command was read late, for as long as `holds` says so.
    """
    loaded, stuck = _load_each(await transaction.connection.fetch(_CLAIM, limit), transaction.now)
    free = [(known, unless_held(known.attempt, holds, transaction.now)) for known in loaded]
    claimed = [replace(known, attempt=attempt) for known, attempt in free if attempt is not None]
    held = [known.attempt.attempt_id for known, attempt in free if attempt is None]
    wanted = {known.attempt.endpoint for known in claimed if isinstance(known.attempt.state, Queued)}
    locked_breakers = await breakers.lock(transaction, wanted) if wanted else None
    changes, stepped, without_step = _advance_each(transaction, claimed, locked_breakers)
    stuck += without_step
    await _save(transaction, stepped)
    if stuck:
        await transaction.connection.execute(_POSTPONE, stuck, POSTPONE_S)
    if held:
        await transaction.connection.execute(_POSTPONE, held, HOLD_S)
    if locked_breakers is not None:
        await locked_breakers.save(transaction)
    await breakers.record(transaction, changes)
    return stepped


def _load_each(rows: Iterable[asyncpg.Record], now: datetime) -> tuple[list[Stepped], list[AttemptId]]:
    loaded: list[Stepped] = []
    stuck: list[AttemptId] = []
    for row in rows:
        try:
            loaded.append(_load(row, now))
        except ValueError:  # A row that cannot be read must not block the others.
            _log.exception(LedgerEvent.ATTEMPT_POSTPONED, attempt_id=row["attempt_id"])
            stuck.append(AttemptId(row["attempt_id"]))
    return loaded, stuck


def _advance_each(
    transaction: Transaction, claimed: Iterable[Stepped], locked_breakers: LockedBreakers | None
) -> tuple[list[Change], list[Stepped], list[AttemptId]]:
    changes: list[Change] = []
    stepped: list[Stepped] = []
    stuck: list[AttemptId] = []
    for known in claimed:
        try:
            input_ = admission(known.attempt, locked_breakers, transaction.now)
            stepped.append(_advance(transaction, known, input_))
            changes.append((known.attempt, input_, stepped[-1].attempt))
        except Exception:  # noqa: BLE001 - a row that cannot be stepped must not block the others
            _log.exception(LedgerEvent.ATTEMPT_POSTPONED, attempt_id=known.attempt.attempt_id)
            stuck.append(known.attempt.attempt_id)
    return changes, stepped, stuck


async def renew(pool: Pool, held: Sequence[Lease]) -> frozenset[Lease]:
    """Renew the leases for another `LEASE_S` seconds. Returns those renewed; the others are lost.

    A lease is bound to the state: the worker of a POST loses it when a callback changes the state of the attempt.
    """
    ids, states = [attempt_id for attempt_id, _ in held], [state for _, state in held]
    # A failed renewal must leave time for another before the leases expire.
    async with bounded(pool, LEASE_S / 3) as connection:
        rows = await connection.fetch(_RENEW, ids, LEASE_S, states)
    return frozenset((AttemptId(row["attempt_id"]), row["state"]) for row in rows)


async def seconds_to_next(transaction: Transaction) -> float | None:
    """Seconds until the next attempt is due, negative if one is overdue; None if there is none."""
    seconds: float | None = await transaction.connection.fetchval(_SECONDS_TO_NEXT)
    return seconds


async def owners(transaction: Transaction, refs: Iterable[ProviderRef]) -> dict[str, AttemptId]:
    """The attempts that own these runs, by the provider's run ids; runs without an attempt are left out."""
    rows = await transaction.connection.fetch(_OWNERS, [ref.request_id for ref in refs])
    return {row["provider_ref"]: AttemptId(row["attempt_id"]) for row in rows}


async def taken_refs(pool: Pool, since: datetime) -> frozenset[str]:
    """The provider's run ids of all attempts that were updated after `since`."""
    async with bounded(pool, LOOP_LIMIT_S) as connection:
        rows = await connection.fetch(_TAKEN, since)
    return frozenset(row["provider_ref"] for row in rows)


def _advance(transaction: Transaction, known: Stepped, input_: Input) -> Stepped:
    result: Step = step(known.attempt, input_, transaction.now)
    for event in result.events:
        transaction.emit(event, known.traceparent)
    transaction.after_commit(partial(report_ambiguity, known.attempt, input_, result.attempt))
    transaction.after_commit(partial(report_late, known.attempt, result.attempt))
    transaction.after_commit(partial(report_step, known.attempt, input_, result.attempt, transaction.now))
    ended = known.ended or (result.attempt.final and not known.attempt.final)
    return Stepped(
        result.attempt,
        known.traceparent,
        result.action or known.action,
        ended=ended,
        due_in_s=_seconds_until(result.attempt.next_action_at, transaction.now),
    )


async def _save(transaction: Transaction, stepped: Collection[Stepped]) -> None:
    attempts = [s.attempt for s in stepped]
    if not attempts:
        return
    # While an action is in progress, its lease must not change.
    check_by = [None if s.action else unchecked_until(s.attempt, transaction.now) for s in stepped]
    await transaction.connection.execute(
        _SAVE,
        [a.attempt_id for a in attempts],
        [a.state.name for a in attempts],
        [a.version for a in attempts],
        [a.next_action_at for a in attempts],
        [a.ref.request_id if a.ref else None for a in attempts],
        [a.state.run.accepted_at if a.state.run else None for a in attempts],
        [a.expects_callback for a in attempts],
        [a.called_back for a in attempts],
        [a.state.cancel_reason for a in attempts],
        [a.failure.kind if a.failure else None for a in attempts],
        [a.throttling_reported for a in attempts],
        check_by,
        [bool(a.state.run and a.state.run.started_at) for a in attempts],
        [a.failing.step if a.failing else None for a in attempts],
        [a.state.run.own_listed_by if a.state.run else None for a in attempts],
        [dump(a) for a in attempts],
    )


def _load(row: asyncpg.Record, now: datetime) -> Stepped:
    # The column is authoritative: renewing a lease updates only the column.
    attempt = replace(load(row["body"], now), next_action_at=row["next_action_at"])
    due_in_s = _seconds_until(attempt.next_action_at, now)
    return Stepped(attempt, row["traceparent"], action=None, ended=False, due_in_s=due_in_s)


def _seconds_until(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else (at - now).total_seconds()
