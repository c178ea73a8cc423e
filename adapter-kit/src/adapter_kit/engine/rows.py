"""The column `body` of the ledger: an attempt as one flat JSON object, whatever its state."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter

from adapter_kit.attempt.model import Attempt

_ATTEMPT: Final = TypeAdapter(Attempt)
_BODY: Final = TypeAdapter(dict[str, Any])


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
