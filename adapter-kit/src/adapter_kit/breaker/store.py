"""The gatekeeper: the gates' rows, locked while attempts pass them or tell how the provider did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from adapter_kit.attempt.inputs import Checked, Happening, SubmitAnswered
from adapter_kit.attempt.model import Attempt
from adapter_kit.breaker.policy import (
    OF_THE_ACCOUNT,
    OPEN_AT_MOST_S,
    PROBE_LEASE_S,
    Admitted,
    Gate,
    Held,
    Limits,
    Shut,
    admit,
    blocked,
    ill,
    is_probe,
    probe_accepted,
    probe_over,
    probed,
    throttled,
    wants_asking,
    well,
)
from adapter_kit.port.outcomes import Accepted, NotSent, ProbeOutcome, Produced, SubmitOutcome, Throttled, Unclear
from chassis.kafka.outbox import Transaction
from chassis.postgres.pool import Connection
from contracts.failures import FAILURES, FailureKind

PROVIDER: Final = ""
"""The scope of the gate for the provider as a whole."""

_BODY: Final = TypeAdapter(Gate)
_MAKE = """
INSERT INTO gates (scope, body) SELECT scope, jsonb_build_object('scope', scope, 'since', now())
FROM unnest($1::text[]) AS scope ON CONFLICT (scope) DO NOTHING
"""
_LOCK = "SELECT body::text FROM gates WHERE scope = ANY($1) ORDER BY scope FOR UPDATE"
_LOCK_SHUT = "SELECT body::text FROM gates WHERE body ->> 'state' <> 'closed' ORDER BY scope FOR UPDATE"
_SAVE = """
UPDATE gates SET body = new.body::jsonb, updated_at = now()
FROM unnest($1::text[], $2::text[]) AS new (scope, body) WHERE gates.scope = new.scope
"""
_UNDER_WAY = """
SELECT count(*) FROM attempts
WHERE next_action_at IS NOT NULL AND state IN ('submitting', 'ambiguous', 'running', 'cancelling')
"""


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """How strict the gates of this provider are."""

    limits: Limits
    open_s: float
    probe_lease_s: float = PROBE_LEASE_S

    async def gates(self, transaction: Transaction, endpoints: Iterable[str]) -> Gates:
        """The provider's gate and those of the endpoints, locked until the transaction ends."""
        scopes = sorted({PROVIDER, *endpoints})
        connection = transaction.connection
        await connection.execute(_MAKE, scopes)
        rows = await connection.fetch(_LOCK, scopes)
        under_way = 0
        if self.limits.concurrent is not None:
            under_way = await connection.fetchval(_UNDER_WAY)
        found = (_BODY.validate_json(row["body"]) for row in rows)
        return Gates(self, under_way, {gate.scope: gate for gate in found})

    async def learn_for_free(
        self, connection: Connection, outcome: ProbeOutcome, sent_at: datetime, now: datetime
    ) -> bool:
        """Tell the shut gates what a free probe said; whether one of them wants to hear more before long."""
        shut = [_BODY.validate_json(row["body"]) for row in await connection.fetch(_LOCK_SHUT)]
        after = [probed(gate, outcome, sent_at, now) for gate in shut]
        await _save(connection, [new for old, new in zip(shut, after, strict=True) if new != old])
        return any(map(wants_asking, after))


@dataclass(slots=True)
class Gates:
    """Some gates, in hand."""

    _keeper: Gatekeeper
    _under_way: int
    _known: dict[str, Gate]
    _changed: set[str] = field(default_factory=set)

    def admit(self, endpoint: str, now: datetime) -> Admitted | Held | Shut:
        """Whether one more run may be asked for there; if so, both gates have counted it."""
        lease_s = self._keeper.probe_lease_s
        own = admit(self._known[endpoint], Limits(), 0, now, lease_s=lease_s)
        if not isinstance(own, Admitted):
            return own
        limits = self._keeper.limits
        provider = admit(self._known[PROVIDER], limits, self._under_way, now, lease_s=lease_s)
        if not isinstance(provider, Admitted):
            return provider
        self._under_way += 1
        self._put(own.gate)
        self._put(provider.gate)
        return provider

    def hear(self, before: Attempt, happening: Happening, after: Attempt, now: datetime) -> None:
        """Learn from what happened to an attempt."""
        match happening:
            case SubmitAnswered(outcome=outcome):
                self._hear_answer(before, outcome, after, now)
            case Checked(outcome=Produced()):
                self._put(well(self._known[after.endpoint], now))
        failure = after.failure
        if failure is not None and FAILURES[failure.kind].callers_fault and not before.final:
            # It read the request well enough to find fault with it.
            self._put(well(self._known[after.endpoint], now))
            self._put(well(self._known[PROVIDER], now))
        elif failure is not None and not before.final:
            scope = PROVIDER if failure.kind in OF_THE_ACCOUNT else after.endpoint
            self._put(ill(self._known[scope], failure.kind, failure.message, now, open_s=self._keeper.open_s))
        if _without_verdict(before, after):
            for scope in (PROVIDER, after.endpoint):
                self._put(probe_over(self._known[scope], before.submit_started_at, now))

    def _hear_answer(self, before: Attempt, outcome: SubmitOutcome, after: Attempt, now: datetime) -> None:
        provider, own = self._known[PROVIDER], self._known[after.endpoint]
        match outcome:
            case Accepted():
                self._put(well(provider, now))
                ends_by = now + timedelta(seconds=after.start_within_s + after.run_within_s + PROBE_LEASE_S)
                self._put(probe_accepted(own, before.submit_started_at, ends_by))
            case Throttled(failure, retry_after_s):
                told = throttled(provider, failure.message, now)
                patience_s = min(retry_after_s or 0.0, OPEN_AT_MOST_S)
                self._put(blocked(told, now + timedelta(seconds=patience_s)) if patience_s else told)
            case NotSent(reason, held_up=False) if is_probe(provider, before.submit_started_at):
                # The one that was to show whether the provider is well did not even get through.
                self._put(ill(provider, FailureKind.UNREACHABLE, reason, now, open_s=self._keeper.open_s))
            case Unclear(reason) if before.state == "submitting":
                # Whatever became of it, a provider that answers nothing clear should not be given more.
                lost = f"no clear answer to a submit: {reason}"
                self._put(ill(own, FailureKind.PROVIDER_ERROR, lost, now, open_s=self._keeper.open_s))

    async def save(self, transaction: Transaction) -> None:
        """Write what has changed."""
        await _save(transaction.connection, [self._known[scope] for scope in sorted(self._changed)])

    def _put(self, gate: Gate) -> None:
        if gate != self._known[gate.scope]:
            self._known[gate.scope] = gate
            self._changed.add(gate.scope)


def speaks(before: Attempt, happening: Happening, after: Attempt) -> bool:
    """Whether what happened says anything to the gates, so that they have to be locked for it."""
    match happening:
        case SubmitAnswered(outcome=Accepted() | Throttled() | Unclear()) | Checked(outcome=Produced()):
            return True
    if _without_verdict(before, after):
        return True
    if after.failure is None or before.final:
        return False
    traits = FAILURES[after.failure.kind]
    return traits.trips_breaker or traits.callers_fault


def _without_verdict(before: Attempt, after: Attempt) -> bool:
    """Whether a run is over in a way that may have left a gate without an answer."""
    back = before.state in ("submitting", "ambiguous") and after.state == "queued"
    return back or (
        not before.final and after.state in ("failed", "cancelled") and before.submit_started_at is not None
    )


async def _save(connection: Connection, changed: Sequence[Gate]) -> None:
    if changed:
        bodies = [_BODY.dump_json(gate).decode() for gate in changed]
        await connection.execute(_SAVE, [gate.scope for gate in changed], bodies)
