"""Idempotency keys: the same key with the same body is the same job; with another body it is refused."""

from __future__ import annotations

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
from gateway.text import quoted

REMEMBER_LIMIT_S: Final = 2.0
"""The database may be away; accepting goes on without it after this."""

MAX_KEY_CHARS: Final = 255

_NOT_IN_A_KEY = re.compile(r"[^\x20-\x7e]")
_REMEMBER = """
INSERT INTO idempotency AS known (tenant, key, fingerprint, job_id, traceparent) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, key) DO UPDATE SET key = known.key
RETURNING fingerprint, traceparent
"""
_PURGE = """
DELETE FROM idempotency WHERE (tenant, key) IN (
    SELECT tenant, key FROM idempotency WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""


@dataclass(frozen=True, slots=True)
class Key:
    """The key of one request, the client's own or one made for it."""

    value: str
    given: bool


@dataclass(frozen=True, slots=True)
class FirstUse:
    """What a key was first used for."""

    fingerprint: str
    traceparent: str | None


def key_of(headers: Sequence[str]) -> Key:
    """The key in a request's Idempotency-Key headers, or a new one. Raises InvalidIdempotencyKey.

    Blanks around it are not part of it (RFC 9110 section 5.5). Anything else is, quotation marks too: the strings of
    RFC 8941 that draft-ietf-httpapi-idempotency-key-header asks for are taken as they are, so that no two spellings
    become one key, and no key another one, with a new version.
    """
    if not headers:
        return Key(str(uuid4()), given=False)
    value = headers[0].strip(" \t")
    if wrong := _wrong_with(value, len(headers)):
        raise InvalidIdempotencyKey(f"Idempotency-Key {wrong}")
    return Key(value, given=True)


def _wrong_with(key: str, times: int) -> str | None:
    rule = f"it has to be one value of 1 to {MAX_KEY_CHARS} printable ASCII characters"
    odd = _NOT_IN_A_KEY.search(key)
    if times > 1:
        return f"is there {times} times; {rule}"
    if not key:
        return f"is empty; {rule}, or be left out"
    if odd is not None:
        return f"has the byte 0x{ord(odd[0]):02X} as character {odd.start() + 1}; {rule}, not {quoted(key)}"
    if len(key) > MAX_KEY_CHARS:
        return f"has {len(key)} characters; {rule}, not {quoted(key)}"
    return None


def require_same(fingerprint: str, first: str | None) -> None:
    """Raises IdempotencyKeyReused if the key was first used for another body."""
    if first is not None and first != fingerprint:
        raise IdempotencyKeyReused


def key_tasks(keep: timedelta) -> tuple[RetentionTask, ...]:
    """What the gateway deletes of its own. A key that has gone still names its job, which the read model keeps."""
    return (delete_rows_task("idempotency_keys", _PURGE, keep),)


class Fingerprints:
    """The keys' first uses, in Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = get_logger("gateway.intake.idempotency")

    async def remember(
        self, tenant: str, key: Key, fingerprint: str, job_id: str, traceparent: str | None
    ) -> FirstUse | None:
        """The key's first use, which may be this one; None if the database does not answer within 2 s."""
        try:
            async with self._database.lease(REMEMBER_LIMIT_S) as lease:
                row = await lease.connection.fetchrow(_REMEMBER, tenant, key.value, fingerprint, job_id, traceparent)
        except TRANSIENT as error:
            self._log.warning(GatewayEvent.IDEMPOTENCY_STORE_UNAVAILABLE, job_id=job_id, error=type(error).__name__)
            return None
        return FirstUse(row["fingerprint"], row["traceparent"]) if row else None
