"""Idempotency keys: the same key with the same body is the same job; with another body it is rejected."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from chassis.observability.logs import get_logger
from chassis.postgres.pool import TRANSIENT
from chassis.postgres.retention import RetentionTask, delete_rows_task
from gateway.intake.errors import IdempotencyKeyReused, InvalidIdempotencyKey
from gateway.log_events import GatewayEvent
from gateway.queries.database import Database
from gateway.queries.single_flight import Grouped
from gateway.text import quoted

REMEMBER_LIMIT_S: Final = 2.0
"""Seconds to wait for the database; after that the request is accepted without it."""

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
_PURGE = """
DELETE FROM idempotency WHERE (tenant, key) IN (
    SELECT tenant, key FROM idempotency WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
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


@dataclass(frozen=True, slots=True)
class _Use:
    tenant: str
    key: str
    fingerprint: str
    job_id: str
    traceparent: str | None

    @property
    def row(self) -> tuple[str, str, str, str, str | None]:
        return self.tenant, self.key, self.fingerprint, self.job_id, self.traceparent


class Fingerprints:
    """The first use of each key, stored in PostgreSQL; concurrent requests share a statement and its commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = get_logger("gateway.intake.idempotency")
        self._uses = Grouped(self._store, common=TRANSIENT)

    async def remember(
        self, tenant: str, key: Key, fingerprint: str, job_id: str, traceparent: str | None
    ) -> FirstUse | None:
        """The key's first use, stored if it is this one; None if the database does not answer within 2 s."""
        try:
            with self._database.budgeted(REMEMBER_LIMIT_S) as within_s:
                async with asyncio.timeout(within_s):
                    return await self._uses.get(_Use(tenant, key.value, fingerprint, job_id, traceparent))
        except TRANSIENT as error:
            self._log.warning(GatewayEvent.IDEMPOTENCY_STORE_UNAVAILABLE, job_id=job_id, error=type(error).__name__)
            return None

    async def _store(self, uses: Sequence[_Use]) -> list[FirstUse | None]:
        rows = {(use.tenant, use.key): use.row for use in reversed(uses)}  # The first of several with one key.
        async with self._database.lease(REMEMBER_LIMIT_S) as lease:
            known = await lease.connection.fetch(_REMEMBER, *zip(*rows.values(), strict=True))
        firsts = {(row["tenant"], row["key"]): FirstUse(row["fingerprint"], row["traceparent"]) for row in known}
        return [firsts.get((use.tenant, use.key)) for use in uses]
