"""Commands and callbacks become rows in the ledger; nothing waits for a provider here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from adapter_kit import ledger
from adapter_kit.attempt import Attempt, CalledBack, CancelWanted, Happening
from adapter_kit.settings import AdapterSettings
from chassis.delivery import Delivered
from chassis.outbox import Outbox, Transaction
from contracts.callbacks import CallbackReceived
from contracts.commands import CancelAttempt, RunAttempt
from contracts.generation import Provider
from contracts.ids import AttemptId

GRACE_MARGIN_S = 60.0


class CommandHandler:
    """Handles a batch of segue.commands.<provider> and segue.callbacks in one transaction."""

    def __init__(
        self,
        provider: Provider,
        settings: AdapterSettings,
        outbox: Outbox,
        wake: Callable[[], None],
        hearing: Hearing,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._outbox = outbox
        self._wake = wake
        self._hearing = hearing
        self._log = get_logger("adapter_kit.commands")

    async def __call__(self, batch: Sequence[Delivered], /) -> None:
        """Write what the batch asks for, and wake the driver once it is committed."""
        async with self._outbox.transaction() as transaction:
            await self._write(transaction, batch)
            transaction.after_commit(self._wake)

    async def _write(self, transaction: Transaction, batch: Sequence[Delivered]) -> None:
        wanted: list[tuple[Attempt, str | None]] = []
        happened: list[tuple[AttemptId, Happening]] = []
        called: list[tuple[AttemptId, Callback | None]] = []
        for delivered in batch:
            match delivered.message:
                case RunAttempt() as command if command.provider == self._provider.name:
                    wanted.append((attempt_from(command, self._settings, transaction.now), delivered.traceparent))
                case CancelAttempt(attempt_id=attempt_id, provider=provider, reason=reason) if self._is_ours(provider):
                    happened.append((attempt_id, CancelWanted(reason)))
                case CallbackReceived(attempt_id=attempt_id, provider=provider, body=body) if self._is_ours(provider):
                    called.append((attempt_id, self._provider.read_callback(body)))
                case _:
                    continue  # segue.callbacks carries both providers' webhooks.
        if wanted:
            await ledger.create(transaction, wanted)
        if happened:
            await ledger.apply(transaction, happened)
        if called:
            await self._call_back(transaction, called)

    async def _call_back(
        self, transaction: Transaction, called: Sequence[tuple[AttemptId, Callback | None]]
    ) -> None:
        refs = [callback.ref for _, callback in called if callback is not None]
        owners = await ledger.owners(transaction, refs)
        happened: list[tuple[AttemptId, Happening]] = []
        for attempt_id, callback in called:
            # Of two runs with the same input a listing may have given each attempt the other's; one each is right.
            swapped = callback is not None and owners.get(callback.ref.request_id, attempt_id) != attempt_id
            happened.append((attempt_id, CalledBack(None if callback is None or swapped else callback.ref)))
        after = await ledger.apply(transaction, happened)
        transaction.after_commit(lambda: self._tell(called, happened, after))

    def _tell(
        self,
        called: Sequence[tuple[AttemptId, Callback | None]],
    ) -> None:
        pass

    def _is_ours(self, provider: ProviderName) -> bool:
        return provider == self._provider.name


def attempt_from(command: RunAttempt, settings: AdapterSettings, now: datetime) -> Attempt:
    """The attempt that a command asks for, due at once."""
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
        submit_timeout_s=settings.submit_timeout_s,
        start_within_s=start_within_s,
        run_within_s=command.run_within_s,
        grace_s=settings.submit_grace_s or derived_grace_s,
        created_at=now,
        next_action_at=now,
    )
