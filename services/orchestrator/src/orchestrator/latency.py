"""How fast each route has been here, learned from the events of attempts, in a small table of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chassis.kafka.outbox import Transaction
from contracts.messages.attempts import AttemptSubmitted, AttemptSucceeded
from contracts.messages.base import Message
from orchestrator.routing.ordering import Pace, Paces

MEMORY: Final = 20
"""About how many of the latest runs of a route count; before there are so many, all count alike."""

_BEGAN = """
UPDATE attempts SET submitted_at = said.at FROM unnest($1::text[], $2::timestamptz[]) AS said (attempt_id, at)
WHERE attempts.attempt_id = said.attempt_id AND attempts.submitted_at IS NULL
"""
# An attempt is timed once, however often its end is told. The rows of paces are locked in one order by everybody.
_ENDED = f"""
WITH timed AS (
    UPDATE attempts SET succeeded_at = said.at
    FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS said (attempt_id, endpoint, at)
    WHERE attempts.attempt_id = said.attempt_id AND submitted_at IS NOT NULL AND succeeded_at IS NULL
    RETURNING provider, said.endpoint, greatest(0, extract(epoch FROM succeeded_at - submitted_at)::float8) AS seconds
)
INSERT INTO paces AS known (provider, endpoint, mean_s, runs)
SELECT provider, endpoint, avg(seconds), count(*) FROM timed GROUP BY provider, endpoint ORDER BY provider, endpoint
ON CONFLICT (provider, endpoint) DO UPDATE SET
    mean_s = known.mean_s + (excluded.mean_s - known.mean_s) * greatest(
        excluded.runs::float8 / (known.runs + excluded.runs), 1 - power(1 - 1.0 / {MEMORY}, excluded.runs)),
    runs = known.runs + excluded.runs,
    updated_at = now()
"""  # noqa: S608 - the only thing put into it is a number of ours
_READ = "SELECT provider, endpoint, mean_s, runs FROM paces"


async def learn(transaction: Transaction, messages: Iterable[Message]) -> None:
    """Take from a batch what it says of the time that runs take; a run told late says nothing about the pace."""
    told = list(messages)
    began = [message for message in told if isinstance(message, AttemptSubmitted)]
    ended = [message for message in told if isinstance(message, AttemptSucceeded) and not message.late]
    if began:
        at = [message.occurred_at for message in began]
        await transaction.connection.execute(_BEGAN, [message.attempt_id for message in began], at)
    if ended:
        at = [message.occurred_at for message in ended]
        endpoints = [message.endpoint for message in ended]
        await transaction.connection.execute(_ENDED, [message.attempt_id for message in ended], endpoints, at)


async def paces(transaction: Transaction) -> Paces:
    """What is known so far."""
    rows = await transaction.connection.fetch(_READ)
    return {(row["provider"], row["endpoint"]): Pace(row["mean_s"], row["runs"]) for row in rows}
