"""The gatekeeper: the gates' rows, locked while attempts pass them or tell how the provider did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from adapter_kit.attempt import Attempt
from adapter_kit.gate import (
    OF_THE_ACCOUNT,
    OPEN_AT_MOST_S,
    Admitted,
    Gate,
    Held,
    Limits,
    Shut,
    admit,
    blocked,
    ill,
    well,
)
from adapter_kit.happenings import Checked, Happening, SubmitAnswered
from adapter_kit.outcomes import Accepted, Produced, Throttled
from chassis.outbox import Transaction
from contracts.failures import FAILURES

PROVIDER: Final = ""
"""The scope of the gate for the provider as a whole."""

_BODY: Final = TypeAdapter(Gate)
_MAKE = """
INSERT INTO gates (scope, body) SELECT scope, jsonb_build_object('scope', scope, 'since', now())
FROM unnest($1::text[]) AS scope ON CONFLICT (scope) DO NOTHING
"""
_LOCK = "SELECT body::text FROM gates WHERE scope = ANY($1) ORDER BY scope FOR UPDATE"
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
        return Gates(self.limits, self.open_s, under_way, {gate.scope: gate for gate in found})


@dataclass(slots=True)
class Gates:
    """Some gates, in hand."""

    _limits: Limits
    _open_s: float
    _under_way: int
    _known: dict[str, Gate]
    _changed: set[str] = field(default_factory=set)

    def admit(self, endpoint: str, now: datetime) -> Admitted | Held | Shut:
        """Whether one more run may be asked for there; if so, both gates have counted it."""
        own = admit(self._known[endpoint], Limits(), 0, now)
        if not isinstance(own, Admitted):
            return own
        provider = admit(self._known[PROVIDER], self._limits, self._under_way, now)
        if not isinstance(provider, Admitted):
            return provider
        self._under_way += 1
        self._put(own.gate)
        self._put(provider.gate)
        return provider

    def hear(self, before: Attempt, happening: Happening, after: Attempt, now: datetime) -> None:
        """Learn from what happened to an attempt."""
        match happening:
            case SubmitAnswered(outcome=Accepted()):
                self._put(well(self._known[PROVIDER], now))
            case SubmitAnswered(outcome=Throttled(retry_after_s=retry_after_s)) if retry_after_s is not None:
                patience_s = min(retry_after_s, OPEN_AT_MOST_S)
                self._put(blocked(self._known[PROVIDER], now + timedelta(seconds=patience_s)))
            case Checked(outcome=Produced()):
                self._put(well(self._known[after.endpoint], now))
        failure = after.failure
        if failure is not None and FAILURES[failure.kind].callers_fault and not before.final:
            # It read the request well enough to find fault with it.
            self._put(well(self._known[after.endpoint], now))
            self._put(well(self._known[PROVIDER], now))
        elif failure is not None and not before.final:
            scope = PROVIDER if failure.kind in OF_THE_ACCOUNT else after.endpoint
            self._put(ill(self._known[scope], failure.kind, failure.message, now, open_s=self._open_s))

    async def save(self, transaction: Transaction) -> None:
        """Write what has changed."""
        changed = [self._known[scope] for scope in sorted(self._changed)]
        if changed:
            bodies = [_BODY.dump_json(gate).decode() for gate in changed]
            await transaction.connection.execute(_SAVE, [gate.scope for gate in changed], bodies)

    def _put(self, gate: Gate) -> None:
        if gate != self._known[gate.scope]:
            self._known[gate.scope] = gate
            self._changed.add(gate.scope)


def speaks(before: Attempt, happening: Happening, after: Attempt) -> bool:
    """Whether what happened says anything to the gates, so that they have to be locked for it."""
    match happening:
        case SubmitAnswered(outcome=Accepted() | Throttled()) | Checked(outcome=Produced()):
            return True
    if after.failure is None or before.final:
        return False
    traits = FAILURES[after.failure.kind]
    return traits.trips_breaker or traits.callers_fault
