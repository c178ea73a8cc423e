"""Attempts with an ambiguous submit, and how they were resolved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from chaos.cluster.fleet import Fleet
from chaos.rows.probes import PROVIDERS, BillLog, fetch, wait_for
from contracts.messages.attempts import AttemptAmbiguous


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """An attempt with an ambiguous submit, and its current state."""

    attempt_id: str
    state: str
    kind: str | None
    ref: str | None
    posts: int

    @property
    def never_sent(self) -> bool:
        """Whether its provider received no POST."""
        return self.posts == 0


_AMBIGUOUS: Final = """
SELECT attempt_id, provider FROM log_sink.events WHERE type = $1 AND stored_at >= $2 AND provider = ANY($3)
"""
_LEDGER: Final = """
SELECT attempt_id, state, failure_kind AS kind, provider_ref FROM {}_adapter.attempts
WHERE attempt_id = ANY($1)
"""


async def resolved(
    fleet: Fleet,
    bill_log: BillLog,
    since: datetime,
    enough: Callable[[list[Ambiguous]], bool],
    *,
    providers: Iterable[str] = PROVIDERS,
    within_s: float = 55,
) -> list[Ambiguous]:
    """The attempts that became ambiguous since then, once `enough` of them exist and all are resolved.

    Raises AssertionError if one was sent twice, is bound to another attempt's run, or failed without proof.
    """

    result: list[Ambiguous] = []

    async def settled() -> bool:
        events = await fetch(fleet, _AMBIGUOUS, AttemptAmbiguous.TYPE, since, list(providers))
        result.clear()
        for provider in providers:
            ids = list({row["attempt_id"] for row in events if row["provider"] == provider})
            rows = await fetch(fleet, _LEDGER.format(provider), ids)
            result.extend(_ambiguous(row, bill_log) for row in rows)
        return enough(result) and not any(one.state in ("submitting", "ambiguous") for one in result)

    await wait_for("every ambiguous attempt is resolved", settled, within_s)
    for one in result:
        posts = bill_log.posts().get(one.attempt_id, [])
        taken = [post["request_id"] for post in posts if post["accepted"]]
        assert len(taken) <= 1, f"paid twice: {one}"
        assert one.ref in (None, *taken), f"bound to another's run: {one}, {taken}"
        assert one.ref or not taken or one.kind == "ambiguous_submission", f"a paid run was given up: {one}, {taken}"
    return result


async def all_bound(fleet: Fleet, bill_log: BillLog, within_s: float = 55) -> tuple[int, int]:
    """The number of POSTed attempts and of accepted runs, once each run is bound to its attempt.

    Raises AssertionError if there is no run: what holds of none is no finding.
    """

    taken: dict[str, str] = {}

    async def bound() -> bool:
        posts = [(one, post) for one, posts in bill_log.posts().items() for post in posts if post["accepted"]]
        taken.update({one: post["request_id"] for one, post in posts})
        rows = [row for name in PROVIDERS for row in await fetch(fleet, _LEDGER.format(name), list(taken))]
        return {row["attempt_id"]: row["provider_ref"] for row in rows} == taken

    await wait_for("every run that was accepted is bound to its attempt", bound, within_s)
    assert taken, "no run was accepted"
    return bill_log.once(), len(taken)


def _ambiguous(row: asyncpg.Record, bill_log: BillLog) -> Ambiguous:
    posts = bill_log.posts().get(row["attempt_id"], [])
    return Ambiguous(row["attempt_id"], row["state"], row["kind"], row["provider_ref"], len(posts))


def describe(found: Iterable[Ambiguous]) -> str:
    """The number of attempts by how they were resolved, as text."""
    every = list(found)
    bound = sum(one.ref is not None for one in every)
    never = [one for one in every if one.kind == "never_accepted"]
    unsent = sum(one.never_sent for one in never)
    others = Counter(one.kind or one.state for one in every if one.ref is None and one not in never)
    return (
        f"{len(every)} attempts ambiguous: {bound} bound to their run, {len(never)} never accepted "
        f"({unsent} of them never sent), others {dict(others)}; no attempt accepted twice"
    )
