"""The ledger: attempts in PostgreSQL, changed by `step` only, under a row lock, in a transaction with its events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg

from adapter_kit.attempt.actions import Action
from adapter_kit.attempt.inputs import Input
from adapter_kit.attempt.machine import step
from adapter_kit.attempt.model import Attempt, Step
from adapter_kit.attempt.running import unchecked_until
from adapter_kit.attempt.states import Queued
from adapter_kit.breaker.store import BreakerStore, Change, LockedBreakers, admission
from adapter_kit.engine.rows import (
    CLAIM,
    INSERT,
    LOCK,
    POSTPONE,
    UPDATE,
    inserted_columns,
    load,
    updated_columns,
)
from adapter_kit.engine.telemetry import report_ambiguity, report_late
from adapter_kit.late_commands import HOLD_S, Holds, unless_held
from adapter_kit.log_events import LedgerEvent
from adapter_kit.port.outcomes import ProviderRef
from adapter_kit.reports import report_step
from chassis.kafka.outbox import Transaction
from chassis.observability.logs import get_logger
from chassis.postgres.opening import Opening
from contracts.ids import AttemptId

POSTPONE_S: Final = 60.0
_log = get_logger("adapter_kit.engine.ledger")

Reading = Callable[[Attempt], Input]
"""Returns the input for an attempt from its row, which is locked."""

_SECONDS_TO_NEXT = "SELECT extract(epoch FROM min(next_action_at) - now())::float8 FROM attempts"
_OWNERS = "SELECT provider_ref, attempt_id FROM attempts WHERE provider_ref = ANY($1)"


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


@dataclass(slots=True)
class Held:
    """The attempts that a transaction has locked or created: they are read once, and written after all inputs."""

    attempts: dict[AttemptId, Stepped] = field(default_factory=dict)
    unsaved: set[AttemptId] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)
    """What the breakers have not recorded yet."""


def opening(attempt_ids: Iterable[AttemptId]) -> Opening:
    """Begin a transaction with the locks of these attempts; `opened` returns them."""
    return Opening(LOCK, (sorted(set(attempt_ids)),))


def opened(transaction: Transaction) -> Held:
    """The attempts that the opening of a transaction has locked."""
    return Held(_known(transaction.opened, transaction.now))


async def create(transaction: Transaction, attempts: Iterable[tuple[Attempt, str | None]]) -> dict[AttemptId, Stepped]:
    """Insert new attempts with their trace contexts, and return them. Attempts that exist already are unchanged.

    Raises asyncpg.UniqueViolationError if another attempt of the job has not ended.
    """
    # The first command counts. All transactions insert in the same order, so that they cannot deadlock.
    wanted = {attempt.attempt_id: (attempt, traceparent) for attempt, traceparent in reversed(list(attempts))}
    inserted = await transaction.connection.fetch(INSERT, *inserted_columns([wanted[each] for each in sorted(wanted)]))
    return {
        attempt_id: _unstepped(*wanted[attempt_id], transaction.now)
        for attempt_id in (AttemptId(row["attempt_id"]) for row in inserted)
    }


async def lock(transaction: Transaction, held: Held, attempt_ids: Iterable[AttemptId]) -> None:
    """Lock these attempts too, without unknown ones."""
    if further := sorted(set(attempt_ids) - held.attempts.keys()):
        held.attempts |= _known(await transaction.connection.fetch(LOCK, further), transaction.now)


async def advance(transaction: Transaction, held: Held, inputs: Sequence[tuple[AttemptId, Input | Reading]]) -> None:
    """Step each attempt through its inputs, in order. `record` writes them."""
    await lock(transaction, held, (attempt_id for attempt_id, _ in inputs))
    for attempt_id, given in inputs:
        if (known := held.attempts.get(attempt_id)) is not None:
            input_ = given(known.attempt) if callable(given) else given
            after = held.attempts[attempt_id] = _advance(transaction, known, input_)
            held.unsaved.add(attempt_id)
            held.changes.append((known.attempt, input_, after.attempt))


async def record(transaction: Transaction, held: Held, breakers: BreakerStore) -> None:
    """Write the attempts that were stepped, and record the changes in the breakers.

    In this order, since it locks breakers: whoever holds them waits for no attempt.
    """
    await _save(transaction, [held.attempts[attempt_id] for attempt_id in sorted(held.unsaved)])
    await breakers.record(transaction, held.changes)
    held.unsaved.clear()
    held.changes.clear()


async def apply(
    transaction: Transaction, inputs: Sequence[tuple[AttemptId, Input | Reading]], held: Held | None = None
) -> tuple[dict[AttemptId, Stepped], list[Change]]:
    """Step each attempt through its inputs, and write it. Returns the attempts after that, without unknown ones.

    The caller records the changes in the breakers, once all attempts of the transaction are locked.
    """
    held = Held() if held is None else held
    await advance(transaction, held, inputs)
    await _save(transaction, [held.attempts[attempt_id] for attempt_id in sorted(held.unsaved)])
    return held.attempts, held.changes


async def claim(
    transaction: Transaction, limit: int, breakers: BreakerStore, holds: Holds = lambda _: False
) -> list[Stepped]:
    """Claim up to `limit` due attempts and step them; no two replicas claim the same one.

    Queued attempts are admitted by the breakers first. An attempt that cannot be read or stepped is postponed, and so
    is one whose command was read late, for as long as `holds` says so.
    """
    loaded, stuck = _load_each(await transaction.connection.fetch(CLAIM, limit), transaction.now)
    free, late, _ = _unless_late(loaded, limit, holds, transaction.now)
    return await _step_due(transaction, free, late, stuck, breakers)


async def claim_held(
    transaction: Transaction, held: Held, limit: int, breakers: BreakerStore, holds: Holds
) -> tuple[list[Stepped], bool]:
    """Claim up to `limit` of the attempts that the transaction holds, as `claim` does, and `record` all of them.

    Returns them, and whether the limit left out others that may be due.
    """
    due = [each for each in held.attempts.values() if each.due_in_s is not None and each.due_in_s <= 0]
    due.sort(key=lambda each: each.due_in_s or 0.0)  # As in CLAIM, what has been due for longest comes first.
    free, late, more = _unless_late(due, limit, holds, transaction.now)
    queued = [each for each in free if isinstance(each.attempt.state, Queued)]
    # No breaker admits the others: they are written with what else has changed.
    others = [each for each in free if not isinstance(each.attempt.state, Queued)]
    changes, stepped, stuck = _advance_each(transaction, others, None)
    held.attempts |= {each.attempt.attempt_id: each for each in stepped}
    held.unsaved |= {each.attempt.attempt_id for each in stepped}
    held.changes += changes
    await record(transaction, held, breakers)
    return stepped + await _step_due(transaction, queued, late, stuck, breakers), more


def _unless_late(
    due: Iterable[Stepped], limit: int, holds: Holds, now: datetime
) -> tuple[list[Stepped], list[AttemptId], bool]:
    """Up to `limit` attempts to be claimed, those whose late commands hold them back, and whether any are left."""
    free: list[Stepped] = []
    late: list[AttemptId] = []
    for known in due:
        if len(free) == limit:
            return free, late, True
        if (attempt := unless_held(known.attempt, holds, now)) is None:
            late.append(known.attempt.attempt_id)
        else:  # It starts with no action, so that one of an earlier step is never performed again.
            free.append(replace(known, attempt=attempt, action=None, ended=False))
    return free, late, False


async def _step_due(
    transaction: Transaction,
    due: Sequence[Stepped],
    late: list[AttemptId],
    stuck: list[AttemptId],
    breakers: BreakerStore,
) -> list[Stepped]:
    wanted = {known.attempt.endpoint for known in due if isinstance(known.attempt.state, Queued)}
    locked_breakers = await breakers.lock(transaction, wanted) if wanted else None
    changes, stepped, without_step = _advance_each(transaction, due, locked_breakers)
    await _save(transaction, stepped)
    if stuck or without_step:
        await transaction.connection.execute(POSTPONE, [*stuck, *without_step], POSTPONE_S)
    if late:
        await transaction.connection.execute(POSTPONE, late, HOLD_S)
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


async def seconds_to_next(transaction: Transaction) -> float | None:
    """Seconds until the next attempt is due, negative if one is overdue; None if there is none."""
    seconds: float | None = await transaction.connection.fetchval(_SECONDS_TO_NEXT)
    return seconds


async def owners(transaction: Transaction, held: Held, refs: Iterable[ProviderRef]) -> dict[str, AttemptId]:
    """The attempts that own these runs, by the provider's run ids; runs without an attempt are left out."""
    known = {each.attempt.ref.request_id: attempt_id for attempt_id, each in held.attempts.items() if each.attempt.ref}
    if unknown := [ref.request_id for ref in refs if ref.request_id not in known]:
        rows = await transaction.connection.fetch(_OWNERS, unknown)
        known |= {row["provider_ref"]: AttemptId(row["attempt_id"]) for row in rows}
    return known


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
    await transaction.connection.execute(UPDATE, *updated_columns(attempts, check_by))


def _known(rows: Iterable[asyncpg.Record], now: datetime) -> dict[AttemptId, Stepped]:
    return {AttemptId(row["attempt_id"]): _load(row, now) for row in rows if row["attempt_id"] is not None}


def _load(row: asyncpg.Record, now: datetime) -> Stepped:
    # The column is authoritative: renewing a lease updates only the column.
    return _unstepped(replace(load(row["body"], now), next_action_at=row["next_action_at"]), row["traceparent"], now)


def _unstepped(attempt: Attempt, traceparent: str | None, now: datetime) -> Stepped:
    due_in_s = _seconds_until(attempt.next_action_at, now)
    return Stepped(attempt, traceparent, action=None, ended=False, due_in_s=due_in_s)


def _seconds_until(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else (at - now).total_seconds()
