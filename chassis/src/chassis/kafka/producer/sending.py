"""Sending rows of the outbox to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.trace import Span

from chassis.kafka.broker import TOO_LARGE, SegueBroker
from chassis.kafka.producer.lanes import publish_all
from contracts.envelope import Record


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the outbox."""

    id: int
    record: Record
    span: Span | None = None
    awaited: bool = True
    """Whether its message is `AWAITED`."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of publishing rows, by their ids, with the first error that may be temporary."""

    done: list[int]
    never: list[int]
    failed: Exception | None


async def send(
    broker: SegueBroker, rows: Sequence[Row], within_s: float, handed_over: Callable[[], None] = lambda: None
) -> Sent:
    """Publish rows; `handed_over` is called once the producer has all of them, in their order."""
    outcomes = await publish_all(broker, [row.record for row in rows], within_s, handed_over)
    told = list(zip((row.id for row in rows), outcomes, strict=True))
    return Sent(
        done=[row_id for row_id, outcome in told if outcome is None],
        never=[row_id for row_id, outcome in told if isinstance(outcome, TOO_LARGE)],
        failed=next((error for error in outcomes if error and not isinstance(error, TOO_LARGE)), None),
    )
