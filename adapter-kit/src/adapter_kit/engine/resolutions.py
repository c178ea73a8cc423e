"""Operators' resolutions of lost submits, applied to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from adapter_kit.attempt.inputs import Resolved
from adapter_kit.engine import ledger
from adapter_kit.engine.ledger import Held
from adapter_kit.log_events import AttemptEvent
from adapter_kit.port.outcomes import ProviderRef
from chassis.kafka.outbox import Transaction
from chassis.observability.logs import get_logger
from contracts.ids import AttemptId
from contracts.messages.commands import ResolveAttempt

_log = get_logger("adapter_kit.engine.resolutions")


async def take_resolutions(transaction: Transaction, held: Held, verdicts: Sequence[ResolveAttempt]) -> None:
    """Step each attempt by its resolution.

    A resolution that names the run of another attempt is logged and dropped.
    """
    refs = [ProviderRef(one.provider_ref, {}) for one in verdicts if one.provider_ref is not None]
    owners = await ledger.owners(transaction, held, refs)
    taken: list[tuple[AttemptId, Resolved]] = []
    for one in verdicts:
        if one.provider_ref is None:
            taken.append((one.attempt_id, Resolved(None, one.occurred_at)))
        elif (owner := owners.setdefault(one.provider_ref, one.attempt_id)) == one.attempt_id:
            taken.append((one.attempt_id, Resolved(ProviderRef(one.provider_ref, {}), one.occurred_at)))
        else:
            _log.error(
                AttemptEvent.RESOLUTION_NAMES_OTHER_RUN,
                job_id=one.job_id,
                attempt_id=one.attempt_id,
                ref=one.provider_ref,
                owner=owner,
            )
    await ledger.advance(transaction, held, taken)
    stepped = dict(held.attempts)
    unknown = [attempt_id for attempt_id, _ in taken if attempt_id not in stepped]
    if unknown:
        # One record for all of them: a producer can write any number of such messages to the topic.
        transaction.after_commit(
            lambda: _log.warning(AttemptEvent.RESOLUTION_OF_UNKNOWN_ATTEMPT, count=len(unknown), attempt_id=unknown[0])
        )
    for attempt_id, verdict in taken:
        if attempt_id not in stepped:
            continue
        state = stepped[attempt_id].attempt.state.name
        ref = verdict.ref.request_id if verdict.ref else None
        transaction.after_commit(partial(_log_resolved, attempt_id, ref, state))


def _log_resolved(attempt_id: AttemptId, ref: str | None, state: str) -> None:
    _log.warning(AttemptEvent.ATTEMPT_RESOLVED, attempt_id=attempt_id, provider_ref=ref, state=state)
