"""The latency of each route, measured from the events of attempts; the table `paces` holds the means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chassis.kafka.outbox import Transaction
from contracts.messages.attempts import AttemptSubmitted, AttemptSucceeded
from contracts.messages.base import Message
from orchestrator.routing.ordering import Latencies, Latency

WINDOW: Final = 20
"""The mean is exponentially weighted over about this many runs of a route; up to this number it is the plain mean."""

_SUBMITTED = """
UPDATE attempts SET submitted_at = event.at FROM unnest($1::text[], $2::timestamptz[]) AS event (attempt_id, at)
WHERE attempts.attempt_id = event.attempt_id AND attempts.submitted_at IS NULL
"""
# An attempt is measured once, however often its end is delivered. All transactions lock the rows of paces in the same
# order, so that they cannot deadlock.
_SUCCEEDED = f"""
WITH timed AS (
    UPDATE attempts SET succeeded_at = event.at
    FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS event (attempt_id, endpoint, at)
    WHERE attempts.attempt_id = event.attempt_id AND submitted_at IS NOT NULL AND succeeded_at IS NULL
    RETURNING provider, event.endpoint, greatest(0, extract(epoch FROM succeeded_at - submitted_at)::float8) AS seconds
)
INSERT INTO paces AS known (provider, endpoint, mean_s, runs)
SELECT provider, endpoint, avg(seconds), count(*) FROM timed GROUP BY provider, endpoint ORDER BY provider, endpoint
ON CONFLICT (provider, endpoint) DO UPDATE SET
    mean_s = known.mean_s + (excluded.mean_s - known.mean_s) * greatest(
        excluded.runs::float8 / (known.runs + excluded.runs), 1 - power(1 - 1.0 / {WINDOW}, excluded.runs)),
    runs = known.runs + excluded.runs,
    updated_at = now()
"""  # noqa: S608 - the only value in it is a constant
_READ = "SELECT provider, endpoint, mean_s, runs FROM paces"


async def record(transaction: Transaction, messages: Iterable[Message]) -> None:
    """Record the durations of the runs that a batch reports. Late results do not count: their event comes long after
    the end of the run.
    """
    batch = list(messages)
    submitted = [message for message in batch if isinstance(message, AttemptSubmitted)]
    succeeded = [message for message in batch if isinstance(message, AttemptSucceeded) and not message.late]
    if submitted:
        at = [message.occurred_at for message in submitted]
        await transaction.connection.execute(_SUBMITTED, [message.attempt_id for message in submitted], at)
    if succeeded:
        at = [message.occurred_at for message in succeeded]
        endpoints = [message.endpoint for message in succeeded]
        await transaction.connection.execute(_SUCCEEDED, [message.attempt_id for message in succeeded], endpoints, at)


async def load(transaction: Transaction) -> Latencies:
    """The latency of each route that has been measured."""
    rows = await transaction.connection.fetch(_READ)
    return {(row["provider"], row["endpoint"]): Latency(row["mean_s"], row["runs"]) for row in rows}
