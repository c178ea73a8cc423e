"""The command handler: applies commands and callbacks to the ledger. It sends no requests to providers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime

from adapter_kit.attempt.inputs import CancelWanted, CollectWanted, Input
from adapter_kit.attempt.model import Attempt
from adapter_kit.breaker.store import BreakerStore
from adapter_kit.engine import ledger
from adapter_kit.engine.callbacks import Callbacks
from adapter_kit.engine.ledger import Held
from adapter_kit.engine.resolutions import take_resolutions
from adapter_kit.late_commands import READ_LATE_S
from adapter_kit.settings import AdapterSettings
from chassis.delivery.consumer import Delivered
from chassis.kafka.outbox import Outbox, Transaction
from contracts.generation import Provider
from contracts.ids import AttemptId
from contracts.messages.base import Message
from contracts.messages.callbacks import CallbackReceived
from contracts.messages.commands import CancelAttempt, CollectAttempt, ResolveAttempt, RunAttempt

GRACE_MARGIN_S = 60.0


class CommandHandler:
    """Handles a batch of segue.commands.<provider> and segue.callbacks in one transaction."""

    def __init__(
        self,
        provider: Provider,
        settings: AdapterSettings,
        outbox: Outbox,
        claim: Callable[[Transaction, Held], Awaitable[None]],
        callbacks: Callbacks,
        breakers: BreakerStore,
        *,
        results_kept_s: float,
    ) -> None:
        """`claim` claims what is due of the attempts that the transaction of a batch holds.

        `results_kept_s`: for how many seconds the provider keeps the result of a finished run.
        """
        self._provider = provider
        self._settings = settings
        self._outbox = outbox
        self._claim = claim
        self._callbacks = callbacks
        self._breakers = breakers
        self._results_kept_s = results_kept_s

    async def __call__(self, batch: Sequence[Delivered], /) -> None:
        """Apply the batch, and claim the attempts that are due after it, in one transaction."""
        own = [delivered for delivered in batch if self._is_own(delivered.message)]
        if not own:
            return
        async with self._outbox.transaction(opening=ledger.opening(_mentioned(own))) as transaction:
            held = ledger.opened(transaction)
            await self._write(transaction, held, own)
            await self._claim(transaction, held)
            await ledger.record(transaction, held, self._breakers)

    def _is_own(self, message: Message) -> bool:
        # segue.callbacks carries the webhooks of all providers.
        about = RunAttempt | CancelAttempt | CollectAttempt | ResolveAttempt | CallbackReceived
        return isinstance(message, about) and message.provider == self._provider

    async def _write(self, transaction: Transaction, held: Held, batch: Sequence[Delivered]) -> None:
        wanted: list[tuple[Attempt, str | None]] = []
        asked: list[tuple[AttemptId, Input]] = []
        called: list[CallbackReceived] = []
        verdicts: list[ResolveAttempt] = []
        for delivered in batch:
            match delivered.message:
                case RunAttempt() as command:
                    attempt = attempt_from(command, self._settings, transaction.now, self._results_kept_s)
                    wanted.append((attempt, delivered.traceparent))
                case CancelAttempt(attempt_id=attempt_id, reason=reason):
                    asked.append((attempt_id, CancelWanted(reason)))
                case CollectAttempt(attempt_id=attempt_id):
                    asked.append((attempt_id, CollectWanted()))
                case CallbackReceived() as callback:
                    called.append(callback)
                case ResolveAttempt() as verdict:
                    verdicts.append(verdict)
                case _:
                    continue
        await self._apply(transaction, held, wanted, asked, verdicts, called)

    async def _apply(
        self,
        transaction: Transaction,
        held: Held,
        wanted: Sequence[tuple[Attempt, str | None]],
        asked: Sequence[tuple[AttemptId, Input]],
        verdicts: Sequence[ResolveAttempt],
        called: Sequence[CallbackReceived],
    ) -> None:
        if wanted:
            held.attempts |= await ledger.create(transaction, wanted)
        if asked:
            await ledger.advance(transaction, held, asked)
        if verdicts:
            await take_resolutions(transaction, held, verdicts)
        if called:
            await self._callbacks.take(transaction, held, called)


def _mentioned(batch: Sequence[Delivered]) -> Iterator[AttemptId]:
    """The attempts that a batch is about, without those that it creates."""
    for delivered in batch:
        match delivered.message:
            case CancelAttempt(attempt_id=attempt_id) | CollectAttempt(attempt_id=attempt_id):
                yield attempt_id
            case ResolveAttempt(attempt_id=attempt_id) | CallbackReceived(attempt_id=attempt_id):
                yield attempt_id


def attempt_from(command: RunAttempt, settings: AdapterSettings, now: datetime, results_kept_s: float) -> Attempt:
    """The attempt that a command requests, in state `queued` and due at once."""
    start_within_s = settings.start_deadline_s or command.start_within_s
    derived_grace_s = start_within_s + command.run_within_s + GRACE_MARGIN_S
    return Attempt(
        attempt_id=command.attempt_id,
        job_id=command.job_id,
        track_id=command.track_id,
        n=command.n,
        provider=command.provider,
        model=command.model,
        endpoint=command.endpoint,
        modality=command.modality,
        arguments=command.arguments,
        price_usd=command.price_usd,
        deadline_at=command.deadline_at,
        ambiguity_policy=command.ambiguity_policy,
        lost_output_policy=command.lost_output_policy,
        results_kept_s=results_kept_s,
        submit_timeout_s=settings.submit_timeout_s,
        start_within_s=start_within_s,
        run_within_s=command.run_within_s,
        grace_s=settings.submit_grace_s or derived_grace_s,
        created_at=now,
        expects_callback=settings.public_url is not None,
        read_late=(now - command.occurred_at).total_seconds() > READ_LATE_S,
        next_action_at=now,
    )
