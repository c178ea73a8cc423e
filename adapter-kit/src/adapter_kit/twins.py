"""Twins: attempts with the same endpoint and input, whose runs the provider's listing cannot tell apart.

The version of an endpoint does not count: the listing may not show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from adapter_kit.port.listing import CLOCK_SKEW
from adapter_kit.port.outcomes import FindOutcome, Found, NoAnswer, NotFound
from adapter_kit.port.provider import LostSubmission
from chassis.postgres.limits import LOOP_LIMIT_S, bounded
from chassis.postgres.pool import Pool
from contracts.ids import AttemptId

TAKEN_BY_TWIN: Final = NoAnswer(
    "another attempt with the same input took a run that may have been this one's, and its own may not be listed yet"
)
_WITH_LIVE_TWINS: Final = """
SELECT late.attempt_id FROM attempts AS late WHERE late.attempt_id = ANY($1) AND EXISTS (
    SELECT FROM attempts AS live WHERE live.next_action_at IS NOT NULL AND live.cancel_reason IS NULL
    AND live.state IN ('submitting', 'ambiguous') AND live.arguments_hash = late.arguments_hash
    AND split_part(live.endpoint, ':', 1) = split_part(late.endpoint, ':', 1)
)
"""
# A twin was created before its submit and found after it; so these times do for that of the submit, which is no column.
# All rows that changed since `$3` are read, by the index on that time.
_LISTED_BY: Final = """
SELECT lost.attempt_id, max(twin.own_listed_by) AS listed_by
FROM unnest($1::text[], $2::timestamptz[]) AS asked (attempt_id, submitted_at)
JOIN attempts AS lost ON lost.attempt_id = asked.attempt_id
JOIN attempts AS twin ON twin.arguments_hash = lost.arguments_hash
    AND split_part(twin.endpoint, ':', 1) = split_part(lost.endpoint, ':', 1)
WHERE twin.own_listed_by IS NOT NULL AND twin.updated_at > $3 AND twin.attempt_id <> lost.attempt_id
    AND twin.accepted_at >= asked.submitted_at - $4::interval
    AND twin.created_at <= asked.submitted_at + $4::interval
GROUP BY lost.attempt_id
"""


async def with_live_twins(pool: Pool, late: Sequence[AttemptId]) -> frozenset[AttemptId]:
    """Those of the late attempts that have a live twin: a submitting or ambiguous one that is not to be cancelled."""
    if not late:
        return frozenset()
    async with bounded(pool, LOOP_LIMIT_S) as connection:
        rows = await connection.fetch(_WITH_LIVE_TWINS, late)
    return frozenset(AttemptId(row["attempt_id"]) for row in rows)


async def twins_listed_by(pool: Pool, lost: Sequence[LostSubmission]) -> Mapping[AttemptId, datetime]:
    """By when the runs of an attempt's twins that were found by a search are in the listing, as their rows say.

    Attempts without such a twin are left out. A twin whose submit was at quite another time is none: neither could take
    the run of the other.
    """
    if not lost:
        return {}
    ids, times = [one.attempt_id for one in lost], [one.submitted_at for one in lost]
    async with bounded(pool, LOOP_LIMIT_S) as connection:
        rows = await connection.fetch(_LISTED_BY, ids, times, min(times) - CLOCK_SKEW, CLOCK_SKEW)
    return {AttemptId(row["attempt_id"]): row["listed_by"] for row in rows}


def of_absent(
    absent: Sequence[LostSubmission],
    found: Mapping[AttemptId, FindOutcome],
    wanted: Sequence[LostSubmission],
    listed_by: Mapping[AttemptId, datetime],
) -> dict[AttemptId, FindOutcome]:
    """The outcomes for the submits whose runs are absent from the listing, as far as a twin may have taken the run.

    `found`: the outcomes for all that are `wanted`. `listed_by`: by when the runs of their twins are listed.
    """
    # What this search found is in no row yet. Those that it left without a run are soon searched for again.
    shown = [one for one in wanted if isinstance(found.get(one.attempt_id), Found)]
    outcomes: dict[AttemptId, FindOutcome] = {}
    for one in absent:
        absence = found[one.attempt_id]
        if any(_are_twins(one, other) for other in shown):
            outcomes[one.attempt_id] = TAKEN_BY_TWIN
        elif isinstance(absence, NotFound):
            outcomes[one.attempt_id] = replace(absence, twin_listed_by=listed_by.get(one.attempt_id))
    return outcomes


def _are_twins(one: LostSubmission, other: LostSubmission) -> bool:
    return one.endpoint.split(":")[0] == other.endpoint.split(":")[0] and one.arguments == other.arguments
