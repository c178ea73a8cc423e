"""The rows of the breakers, which are locked while attempts are admitted or their results are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from adapter_kit.attempt.inputs import CalledBack, Checked, Due, HeldBack, Input, ShutOut, SubmitAnswered
from adapter_kit.attempt.model import Attempt
from adapter_kit.attempt.states import Ambiguous, Closed, Collecting, Queued, Submitting
from adapter_kit.breaker.policy import (
    OPEN_AT_MOST_S,
    PROBE_LEASE_S,
    Admitted,
    Breaker,
    Held,
    LastError,
    Limits,
    Shut,
    admit,
    awaits_probe,
    blocked,
    is_probe,
    probe_accepted,
    probe_over,
    probed,
    record_failure,
    record_success,
    throttled,
)
from adapter_kit.port.outcomes import Accepted, NotSent, ProbeOutcome, Produced, SubmitOutcome, Throttled, Unclear
from chassis.kafka.outbox import Transaction
from chassis.postgres.pool import Connection
from contracts.failures import FAILURES, FailureKind

Change = tuple[Attempt, Input, Attempt]
"""An attempt before an input, the input, and the attempt after it."""

PROVIDER: Final = "provider"
"""The scope of the provider's own breaker; the scope of an endpoint's is its name, which contains a slash."""

_MAKE = """
INSERT INTO breakers (scope, since) SELECT scope, now() FROM unnest($1::text[]) AS scope ON CONFLICT (scope) DO NOTHING
"""
# The provider's breaker first: whoever holds it may lock more of them later in its transaction without a deadlock.
_LOCK = "SELECT * FROM breakers WHERE scope = ANY($1) ORDER BY scope <> 'provider', scope FOR UPDATE"
_LOCK_SHUT = """
SELECT * FROM breakers WHERE state <> 'closed' OR scope = 'provider' ORDER BY scope <> 'provider', scope FOR UPDATE
"""
_SAVE = """
UPDATE breakers SET since = new.since, state = new.state, failures = new.failures, openings = new.openings,
    opened_at = new.opened_at, open_until = new.open_until, shut_for = new.shut_for, probe_at = new.probe_at,
    probe_until = new.probe_until, asked_at = new.asked_at, hurried = new.hurried, blocked_until = new.blocked_until,
    tokens = new.tokens, tokens_at = new.tokens_at, error = new.error, last_error_kind = new.last_error_kind,
    last_error = new.last_error, last_error_at = new.last_error_at, updated_at = now()
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::int[], $5::int[], $6::timestamptz[], $7::timestamptz[],
    $8::text[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::bool[], $13::timestamptz[],
    $14::float8[], $15::timestamptz[], $16::text[], $17::text[], $18::text[], $19::timestamptz[])
    AS new (scope, since, state, failures, openings, opened_at, open_until, shut_for, probe_at, probe_until, asked_at,
            hurried, blocked_until, tokens, tokens_at, error, last_error_kind, last_error, last_error_at)
WHERE breakers.scope = new.scope
"""
_IN_FLIGHT = """
SELECT count(*) FROM attempts
WHERE next_action_at IS NOT NULL AND state IN ('submitting', 'ambiguous', 'running', 'cancelling')
"""


@dataclass(frozen=True, slots=True)
class BreakerStore:
    """Loads, locks and saves the breakers of one provider; holds the limits that they enforce."""

    limits: Limits
    open_s: float
    probe_lease_s: float = PROBE_LEASE_S

    async def lock(self, transaction: Transaction, endpoints: Iterable[str]) -> LockedBreakers:
        """Lock the provider's breaker and those of the endpoints until the transaction ends."""
        scopes = [PROVIDER, *sorted({*endpoints} - {PROVIDER})]
        connection = transaction.connection
        rows = await connection.fetch(_LOCK, scopes)
        if len(rows) < len(scopes):
            await connection.execute(_MAKE, scopes)
            rows = await connection.fetch(_LOCK, scopes)
        in_flight = 0
        if self.limits.concurrent is not None:
            in_flight = await connection.fetchval(_IN_FLIGHT)
        return LockedBreakers(self, in_flight, {breaker.scope: breaker for breaker in map(_load, rows)})

    async def record(self, transaction: Transaction, changes: Iterable[Change]) -> None:
        """Record the results of runs among the changes of attempts, in the breakers that they concern."""
        results = [change for change in changes if concerns_breaker(*change)]
        if not results:
            return
        locked = await self.lock(transaction, {after.endpoint for _, _, after in results})
        for before, input_, after in results:
            locked.record(before, input_, after, transaction.now)
        await locked.save(transaction)

    async def record_probe(
        self, connection: Connection, outcome: ProbeOutcome, sent_at: datetime, now: datetime
    ) -> bool:
        """Apply the result of a credential probe to the open breakers; returns whether one of them awaits another."""
        shut = [_load(row) for row in await connection.fetch(_LOCK_SHUT) if row["state"] != "closed"]
        after = [probed(breaker, outcome, sent_at, now) for breaker in shut]
        await save(connection, [new for old, new in zip(shut, after, strict=True) if new != old])
        return any(map(awaits_probe, after))


@dataclass(slots=True)
class LockedBreakers:
    """Breakers locked by this transaction."""

    _store: BreakerStore
    _in_flight: int
    _known: dict[str, Breaker]
    _changed: set[str] = field(default_factory=set)

    def breaker(self, scope: str) -> Breaker:
        """The breaker of a scope, with the changes that this transaction has made to it."""
        return self._known[scope]

    def admit(self, endpoint: str, now: datetime) -> Admitted | Held | Shut:
        """Whether one more run may be submitted to the endpoint; if so, both breakers have counted it."""
        lease_s = self._store.probe_lease_s
        own = admit(self.breaker(endpoint), Limits(), 0, now, lease_s=lease_s)
        if not isinstance(own, Admitted):
            return own
        limits = self._store.limits
        provider = admit(self.breaker(PROVIDER), limits, self._in_flight, now, lease_s=lease_s)
        if not isinstance(provider, Admitted):
            return provider
        self._in_flight += 1
        self._replace(own.breaker)
        self._replace(provider.breaker)
        return provider

    def record(self, before: Attempt, input_: Input, after: Attempt, now: datetime) -> None:
        """Record the result of a run, given by an input and its effect on an attempt, in the breakers."""
        match input_:
            case SubmitAnswered(outcome=outcome):
                self._record_answer(before, outcome, after, now)
            case Checked(outcome=Produced()):
                self._replace(record_success(self.breaker(after.endpoint), now))
            case CalledBack(result=Produced()) if _taken_over(before, after):
                self._replace(record_success(self.breaker(after.endpoint), now))
        failure = after.failure
        if failure is not None and FAILURES[failure.kind].callers_fault and not before.final:
            # The provider processed the request and found the caller's mistake, so it works.
            self._replace(record_success(self.breaker(after.endpoint), now))
            self._replace(record_success(self.breaker(PROVIDER), now))
        elif failure is not None and not before.final and not isinstance(input_, Due):
            # What ends because its time is over says nothing of the provider now: the adapter may have been away.
            scope = PROVIDER if FAILURES[failure.kind].breaker == "provider" else after.endpoint
            self._replace(
                record_failure(self.breaker(scope), failure.kind, failure.message, now, open_s=self._store.open_s)
            )
        if _without_verdict(before, after):
            for scope in (PROVIDER, after.endpoint):
                self._replace(probe_over(self.breaker(scope), before.submit_started_at, now))

    def _record_answer(self, before: Attempt, outcome: SubmitOutcome, after: Attempt, now: datetime) -> None:
        provider, own = self.breaker(PROVIDER), self.breaker(after.endpoint)
        match outcome:
            case Accepted():
                self._replace(record_success(provider, now))
                if before.final:
                    return  # A callback came first, and how the run ended is recorded.
                ends_by = now + timedelta(seconds=after.start_within_s + after.run_within_s + PROBE_LEASE_S)
                self._replace(probe_accepted(own, before.submit_started_at, ends_by))
            case Throttled(failure, retry_after_s):
                noted = throttled(provider, failure.message, now)
                delay_s = min(retry_after_s or 0.0, OPEN_AT_MOST_S)
                self._replace(blocked(noted, now + timedelta(seconds=delay_s)) if delay_s else noted)
            case NotSent(reason, held_up=False) if is_probe(provider, before.submit_started_at):
                # The probe itself could not be sent.
                self._replace(record_failure(provider, FailureKind.UNREACHABLE, reason, now, open_s=self._store.open_s))
            case Unclear(reason) if isinstance(before.state, Submitting):
                # Whether it was accepted is unknown, but unclear responses count as failures.
                lost = f"no clear answer to a submit: {reason}"
                self._replace(record_failure(own, FailureKind.PROVIDER_ERROR, lost, now, open_s=self._store.open_s))

    async def save(self, transaction: Transaction) -> None:
        """Write the changed breakers."""
        await save(transaction.connection, [self.breaker(scope) for scope in sorted(self._changed)])

    def _replace(self, breaker: Breaker) -> None:
        if breaker != self.breaker(breaker.scope):
            self._known[breaker.scope] = breaker
            self._changed.add(breaker.scope)


def admission(attempt: Attempt, locked_breakers: LockedBreakers | None, now: datetime) -> Input:
    """The input of an attempt that is due: whether the breakers, if it needs them, let it be submitted."""
    if locked_breakers is None or not isinstance(attempt.state, Queued) or now >= attempt.deadline_at:
        return Due()
    match locked_breakers.admit(attempt.endpoint, now):
        case Admitted():
            return Due()
        case Held(until, reason):
            return HeldBack(until, reason)
        case Shut(until, reason):
            return ShutOut(until, reason)


def concerns_breaker(before: Attempt, input_: Input, after: Attempt) -> bool:
    """Whether an input may change the breakers, so that they have to be locked."""
    if isinstance(before.state, Queued):
        return False  # It was not sent, or has given back the lease of a probe when it was queued again.
    match input_:
        case SubmitAnswered(outcome=Accepted() | Throttled() | Unclear()) | Checked(outcome=Produced()):
            return True
        case CalledBack(result=Produced()) if _taken_over(before, after):
            return True
    if _without_verdict(before, after):
        return True
    if after.failure is None or before.final:
        return False
    traits = FAILURES[after.failure.kind]
    return traits.breaker is not None or traits.callers_fault


def _taken_over(before: Attempt, after: Attempt) -> bool:
    """Whether the attempt has entered `collecting`; a callback may be repeated at any time later."""
    return isinstance(after.state, Collecting) and not isinstance(before.state, Collecting)


def _without_verdict(before: Attempt, after: Attempt) -> bool:
    """Whether a run ended without a result for the breakers."""
    if isinstance(before.state, Submitting | Ambiguous) and isinstance(after.state, Queued):
        return True
    without_result = isinstance(after.state, Closed) and after.state.name != "succeeded"
    return without_result and not before.final and before.submit_started_at is not None


async def save(connection: Connection, changed: Sequence[Breaker]) -> None:
    """Write breakers whose rows exist."""
    if changed:
        await connection.execute(_SAVE, *map(list, zip(*map(_dump, changed), strict=True)))


def _dump(breaker: Breaker) -> tuple[object, ...]:
    """The row of a breaker in the column order of `_SAVE`; its last error takes three columns."""
    last = breaker.last_error
    columns = tuple(getattr(breaker, each.name) for each in fields(Breaker) if each.name != "last_error")
    return (*columns, *((last.kind, last.message, last.at) if last is not None else (None, None, None)))


def _load(row: asyncpg.Record) -> Breaker:
    kind, shut_for = row["last_error_kind"], row["shut_for"]
    return replace(
        Breaker(**{each.name: row[each.name] for each in fields(Breaker)}),
        shut_for=None if shut_for is None else FailureKind(shut_for),
        last_error=None if kind is None else LastError(FailureKind(kind), row["last_error"], row["last_error_at"]),
    )
