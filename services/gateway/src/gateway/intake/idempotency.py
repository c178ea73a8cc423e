"""Idempotency keys: the same key with the same body is the same job; with another body it is rejected."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import uuid4

import asyncpg

from chassis.observability.logs import get_logger
from chassis.postgres.pool import TRANSIENT
from chassis.postgres.retention import RetentionTask, delete_rows_task
from gateway.intake.errors import IdempotencyKeyReused, InvalidIdempotencyKey
from gateway.log_events import GatewayEvent
from gateway.queries.database import Database
from gateway.queries.read_model_sql import HAS_JOB, UNAVAILABLE
from gateway.queries.single_flight import Grouped
from gateway.text import quoted

REMEMBER_LIMIT_S: Final = 2.0
"""Seconds to wait for the database; after that the request is accepted without it."""
TOGETHER_LIMIT_S: Final = 1.25
"""Seconds to wait for the statement that also looks for the job; after that the two are tried separately."""

MAX_KEY_CHARS: Final = 255

_NOT_IN_A_KEY = re.compile(r"[^\x20-\x7e]")
# Rows are locked in the order of their keys, so that replicas cannot deadlock.
_REMEMBER = """
INSERT INTO idempotency AS known (tenant, key, fingerprint, job_id, traceparent)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS used (tenant, key, fingerprint, job_id, traceparent) ORDER BY tenant, key
ON CONFLICT (tenant, key) DO UPDATE SET key = known.key
RETURNING tenant, key, fingerprint, traceparent
"""
# Most rows are as they were to be stored, and of new jobs. Only the others are returned.
_REMEMBER_AND_FIND = f"""
WITH used AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
        AS used (tenant, key, fingerprint, job_id, traceparent)
), first AS (
    INSERT INTO idempotency AS known (tenant, key, fingerprint, job_id, traceparent)
    SELECT * FROM used ORDER BY tenant, key
    ON CONFLICT (tenant, key) DO UPDATE SET key = known.key
    RETURNING tenant, key, fingerprint, traceparent
), found AS (
    SELECT first.*, {HAS_JOB.format(job_id="used.job_id", tenant="used.tenant")} AS has_job,
        (first.fingerprint, first.traceparent) IS DISTINCT FROM (used.fingerprint, used.traceparent) AS is_repeat
    FROM first JOIN used USING (tenant, key)
)
SELECT tenant, key, fingerprint, traceparent, has_job FROM found WHERE has_job OR is_repeat
"""  # noqa: S608 - only constants are formatted into it
_PURGE = """
DELETE FROM idempotency WHERE (tenant, key) IN (
    SELECT tenant, key FROM idempotency WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT {limit} FOR UPDATE SKIP LOCKED
)
"""


@dataclass(frozen=True, slots=True)
class Key:
    """The key of one request: the client's own if `given`, else a generated one."""

    value: str
    given: bool


@dataclass(frozen=True, slots=True)
class FirstUse:
    """The fingerprint of the body that a key was first used for, and the trace of that request."""

    fingerprint: str
    traceparent: str | None
    has_job: bool | None = None
    """Whether the read model has the key's job; None if it was not looked for."""


def key_of(headers: Sequence[str]) -> Key:
    """The key in a request's Idempotency-Key headers, or a new one if there is none. Raises InvalidIdempotencyKey.

    Surrounding blanks are not part of the key (RFC 9110 section 5.5). All else is, including quotation marks: RFC 8941
    strings, which draft-ietf-httpapi-idempotency-key-header requires, are not parsed. So two spellings are never the
    same key, and a key stays the same across releases.
    """
    if not headers:
        return Key(str(uuid4()), given=False)
    value = headers[0].strip(" \t")
    if problem := _problem_of(value, len(headers)):
        raise InvalidIdempotencyKey(f"Idempotency-Key {problem}")
    return Key(value, given=True)


def _problem_of(key: str, times: int) -> str | None:
    rule = f"it has to be one value of 1 to {MAX_KEY_CHARS} printable ASCII characters"
    invalid = _NOT_IN_A_KEY.search(key)
    if times > 1:
        return f"is there {times} times; {rule}"
    if not key:
        return f"is empty; {rule}, or be left out"
    if invalid is not None:
        return f"has the byte 0x{ord(invalid[0]):02X} as character {invalid.start() + 1}; {rule}, not {quoted(key)}"
    if len(key) > MAX_KEY_CHARS:
        return f"has {len(key)} characters; {rule}, not {quoted(key)}"
    return None


def require_same(fingerprint: str, first: str | None) -> None:
    """Check that the key's first use, if known, had the same fingerprint. Raises IdempotencyKeyReused if not."""
    if first is not None and first != fingerprint:
        raise IdempotencyKeyReused


def key_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """The retention tasks of the gateway. A deleted key still means the same job, whose id is derived from the key."""
    return (delete_rows_task("idempotency_keys", _PURGE, keep),)


class Use(NamedTuple):
    """A use of a key: the columns of its row, in their order in the statements."""

    tenant: str
    key: str
    fingerprint: str
    job_id: str
    traceparent: str | None


class Fingerprints:
    """The first use of each key, stored in PostgreSQL; concurrent requests share a statement and its commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = get_logger("gateway.intake.idempotency")
        self._uses = Grouped(self._store, common=TRANSIENT)
        self._uses_of_jobs = Grouped(self._store_and_find, common=UNAVAILABLE)

    async def remember(self, use: Use) -> FirstUse | None:
        """The key's first use, stored if it is this one; None if the database does not answer within 2 s."""
        try:
            return await self._answered(self._uses, use, REMEMBER_LIMIT_S)
        except TRANSIENT as error:
            name = type(error).__name__
            self._log.warning(GatewayEvent.IDEMPOTENCY_STORE_UNAVAILABLE, job_id=use.job_id, error=name)
            return None

    async def remember_and_find(self, use: Use) -> FirstUse | None:
        """As `remember`, in one statement with the question whether the read model has the job; None if it fails.

        It fails within 1.25 s, also if only one of the two cannot be had, for example while a table of the log sink is
        locked or its view does not exist yet. The other one can be had separately then.
        """
        try:
            return await self._answered(self._uses_of_jobs, use, TOGETHER_LIMIT_S)
        except UNAVAILABLE:
            return None

    async def _answered(self, uses: Grouped[Use, FirstUse], use: Use, limit_s: float) -> FirstUse:
        with self._database.budgeted(limit_s) as within_s:
            async with asyncio.timeout(within_s):
                return await uses.get(use)

    async def _store(self, uses: Sequence[Use]) -> list[FirstUse]:
        known = await self._fetch(_REMEMBER, _rows(uses).values(), REMEMBER_LIMIT_S)
        firsts = {(row["tenant"], row["key"]): FirstUse(row["fingerprint"], row["traceparent"]) for row in known}
        return [firsts[use.tenant, use.key] for use in uses]

    async def _store_and_find(self, uses: Sequence[Use]) -> list[FirstUse]:
        rows = _rows(uses)
        firsts = {key: FirstUse(use.fingerprint, use.traceparent, has_job=False) for key, use in rows.items()}
        for row in await self._fetch(_REMEMBER_AND_FIND, rows.values(), TOGETHER_LIMIT_S):
            first = FirstUse(row["fingerprint"], row["traceparent"], row["has_job"])
            firsts[row["tenant"], row["key"]] = first
        return [firsts[use.tenant, use.key] for use in uses]

    async def _fetch(self, sql: str, uses: Iterable[Use], limit_s: float) -> list[asyncpg.Record]:
        async with self._database.lease(limit_s) as lease:
            return await lease.connection.fetch(sql, *zip(*uses, strict=True))


def _rows(uses: Sequence[Use]) -> dict[tuple[str, str], Use]:
    """The uses to store, by tenant and key: the first of several with one key."""
    return {(use.tenant, use.key): use for use in reversed(uses)}
