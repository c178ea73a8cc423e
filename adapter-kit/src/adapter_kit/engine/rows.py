"""The rows of the ledger. The column `body` is an attempt as one flat JSON object, whatever its state; what is queried
is a column of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter

from adapter_kit.attempt.model import Attempt

_ATTEMPT: Final = TypeAdapter(Attempt)
_BODY: Final = TypeAdapter(dict[str, Any])
_ARGUMENTS: Final = TypeAdapter(Mapping[str, JsonValue])

INSERT = """
INSERT INTO attempts (attempt_id, job_id, state, version, next_action_at, traceparent, endpoint, deadline_at,
    expects_callback, arguments_hash, body)
SELECT attempt_id, job_id, state, version, next_action_at, traceparent, endpoint, deadline_at, expects_callback,
    sha256(convert_to(arguments::text, 'UTF8')), body
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::text[], $7::text[],
    $8::timestamptz[], $9::bool[], $10::text[]::jsonb[], $11::text[]::jsonb[]) AS new (attempt_id, job_id, state,
    version, next_action_at, traceparent, endpoint, deadline_at, expects_callback, arguments, body)
ON CONFLICT (attempt_id) DO NOTHING RETURNING attempt_id
"""
UPDATE = """
UPDATE attempts SET state = new.state, version = new.version, next_action_at = new.next_action_at,
    provider_ref = new.provider_ref, accepted_at = new.accepted_at, expects_callback = new.expects_callback,
    called_back = new.called_back, cancel_reason = new.cancel_reason, failure_kind = new.failure_kind,
    throttling_reported = new.throttling_reported, check_by = new.check_by, started = new.started,
    failing = new.failing, own_listed_by = coalesce(new.own_listed_by, attempts.own_listed_by),
    body = new.body::jsonb, updated_at = now()
FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::text[], $6::timestamptz[], $7::bool[],
    $8::bool[], $9::text[], $10::text[], $11::bool[], $12::timestamptz[], $13::bool[], $14::text[], $15::timestamptz[],
    $16::text[]) AS new (attempt_id, state, version, next_action_at, provider_ref, accepted_at, expects_callback,
        called_back, cancel_reason, failure_kind, throttling_reported, check_by, started, failing, own_listed_by, body)
WHERE attempts.attempt_id = new.attempt_id
"""
LOCK = """
SELECT now() AS now, attempt_id, body, traceparent, next_action_at FROM (SELECT) AS always LEFT JOIN (
    SELECT attempt_id, body::text, traceparent, next_action_at FROM attempts
    WHERE attempt_id = ANY($1::text[]) ORDER BY attempt_id FOR UPDATE
) AS known ON true
"""
CLAIM = """
SELECT attempt_id, body::text, traceparent, next_action_at FROM attempts
WHERE next_action_at <= now() ORDER BY next_action_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""
RENEW = """
UPDATE attempts SET next_action_at = now() + make_interval(secs => $2)
WHERE attempt_id IN (
    SELECT attempt_id FROM attempts WHERE (attempt_id, state) IN (SELECT * FROM unnest($1::text[], $3::text[]))
    AND next_action_at > now() FOR UPDATE SKIP LOCKED
)
RETURNING attempt_id, state
"""
POSTPONE = """
UPDATE attempts SET next_action_at = now() + make_interval(secs => $2) WHERE attempt_id = ANY($1)
"""


def dump(attempt: Attempt) -> str:
    """The attempt as JSON. The fields of its state, and of the records within the state, are top-level keys."""
    body = _ATTEMPT.dump_python(attempt, mode="json")
    state = body.pop("state")
    follow_up = state.pop("follow_up", None)
    for name in ("run", "lost", "files"):
        body |= state.pop(name, None) or {}
    body |= state | {"state": state["name"]}
    if follow_up is not None:
        claim = follow_up.get("claim")
        body |= {"follow_up": follow_up["name"], "follow_up_until": follow_up["until"], "claim": claim}
        if claim is not None:
            body["cancel_answered"] = True  # So that a replica of an earlier release does not cancel the run either.
    del body["name"]
    return _BODY.dump_json(body).decode()


def inserted_columns(rows: Sequence[tuple[Attempt, str | None]]) -> tuple[list[Any], ...]:
    """The arguments of `INSERT` for attempts with their trace contexts."""
    return (
        [a.attempt_id for a, _ in rows],
        [a.job_id for a, _ in rows],
        [a.state.name for a, _ in rows],
        [a.version for a, _ in rows],
        [a.next_action_at for a, _ in rows],
        [traceparent for _, traceparent in rows],
        [a.endpoint for a, _ in rows],
        [a.deadline_at for a, _ in rows],
        [a.expects_callback for a, _ in rows],
        [_ARGUMENTS.dump_json(a.arguments).decode() for a, _ in rows],
        [dump(a) for a, _ in rows],
    )


def updated_columns(attempts: Sequence[Attempt], check_by: Sequence[datetime | None]) -> tuple[list[Any], ...]:
    """The arguments of `UPDATE` for attempts, with the times by which their status is requested."""
    return (
        [a.attempt_id for a in attempts],
        [a.state.name for a in attempts],
        [a.version for a in attempts],
        [a.next_action_at for a in attempts],
        [a.ref.request_id if a.ref else None for a in attempts],
        [a.state.run.accepted_at if a.state.run else None for a in attempts],
        [a.expects_callback for a in attempts],
        [a.called_back for a in attempts],
        [a.state.cancel_reason for a in attempts],
        [a.failure.kind if a.failure else None for a in attempts],
        [a.throttling_reported for a in attempts],
        list(check_by),
        [bool(a.state.run and a.state.run.started_at) for a in attempts],
        [a.failing.step if a.failing else None for a in attempts],
        [a.state.run.own_listed_by if a.state.run else None for a in attempts],
        [dump(a) for a in attempts],
    )


def load(text: str, now: datetime) -> Attempt:
    """The attempt from the JSON of `dump`. Raises pydantic.ValidationError if the JSON is not a valid attempt.

    Fields may be missing in a row of an earlier release: its listing then counts as having answered at `now`, and its
    output is fetched until the job's deadline.
    """
    body = _BODY.validate_json(text)
    return _ATTEMPT.validate_python(body | {"state": _state(body, now)})


def _state(body: dict[str, Any], now: datetime) -> dict[str, Any]:
    name, submitted_at, ref = body.get("state"), body.get("submit_started_at"), body.get("ref")
    answered_at, until = body.get("listing_answered_at") or now, body.get("follow_up_until")
    claim = None if ref else body.get("claim")
    return body | {
        "name": name,
        "fetch_by": body.get("fetch_by") or (body.get("deadline_at") if name == "collecting" else None),
        "run": body | {"accepted_at": body.get("accepted_at") or submitted_at} if ref else None,
        "lost": body | {"listing_answered_at": answered_at} if body.get("resolve_by") else None,
        "files": body,
        "follow_up": {"name": body["follow_up"], "until": until, "claim": claim} if body.get("follow_up") else None,
    }
