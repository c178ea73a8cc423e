"""Reading create requests, and the errors of Replicate that come before those of the model."""

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from sandbox.http.responses import PRESETS, Answer, Reply, replicate_problem
from sandbox.models.endpoints import ENDPOINTS, Endpoint, find_endpoint
from sandbox.models.validation import check_input
from sandbox.runs.intake import Arrival
from sandbox.settings import Settings

_TOKEN = re.compile(r"Bearer (r8_\S+)")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_EVENTS = frozenset({"start", "output", "logs", "completed"})


async def read_body(request: Request) -> Mapping[str, Any]:
    """The JSON object in a request's body; an empty one for anything else."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def read_arrival(request: Request, body: Mapping[str, Any]) -> Arrival:
    """The submit in a create request, by model, deployment or version."""
    path = request.path_params
    name = f"{path['owner']}/{path['name']}" if path else str(body.get("version", ""))
    endpoint = find_endpoint("replicate", name) or _by_version(name)
    given, webhook = body.get("input"), body.get("webhook")
    checked = check_input(endpoint, given) if endpoint and isinstance(given, dict) else None
    problem = checked if isinstance(checked, Reply) else None
    accepted = None if isinstance(checked, Reply) else checked
    address = webhook if isinstance(webhook, str) and webhook else None
    return Arrival("replicate", name, given, address, None, endpoint, accepted, problem)


def _by_version(name: str) -> Endpoint | None:
    version = name.rpartition(":")[2]
    return next((e for e in ENDPOINTS.values() if e.version and e.version == version), None)


def refuses_token(headers: Mapping[str, str], settings: Settings) -> Answer | None:
    """The 401 for a token that is missing, malformed or set as invalid."""
    found = _TOKEN.fullmatch(headers.get("authorization", ""))
    return None if found and found[1] not in settings.bad_keys else PRESETS["replicate"]["unauthorized"]


def refuses_model(request: Request, arrival: Arrival, body: Mapping[str, Any]) -> Answer | None:
    """The refusal of a model, deployment or version that cannot be run in this way; None if it can."""
    community = arrival.endpoint is not None and arrival.endpoint.version is not None
    if request.path_params:
        return PRESETS["replicate"]["not_found"] if arrival.endpoint is None or community else None
    if "version" not in body:
        return _invalid("required", "version is required")
    if arrival.endpoint is None or (community and "/" in arrival.name and ":" not in arrival.name):
        detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
        return replicate_problem(422, "Invalid version or not permitted", detail)
    return None


def refuses_body(body: Mapping[str, Any]) -> Answer | None:
    """The 422 for an error in the request outside the model's own input; None if there is none."""
    if not isinstance(body.get("input"), dict):
        return _invalid("required", "input is required")
    events = body.get("webhook_events_filter")
    if events is not None and not (isinstance(events, list) and set(map(str, events)) <= _EVENTS):
        return _invalid("enum", "webhook_events_filter must be of start, output, logs, completed")
    return None


def _invalid(kind: str, text: str) -> Reply:
    fields = [{"type": kind, "field": "", "description": text}]
    return replicate_problem(422, "Input validation failed", f"- {text}\n", invalid_fields=fields)


def wanted_events(body: Mapping[str, Any]) -> frozenset[str] | None:
    """The requested webhook events; None means all."""
    events = body.get("webhook_events_filter")
    return None if events is None else frozenset(events)


def cancel_after(text: str | None, least_s: float) -> float | None:
    """The deadline of a `Cancel-After` header in seconds, at least `least_s` and at most a day."""
    found = _DURATION.fullmatch(text) if text else None
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(min(max(hours * 3600 + minutes * 60 + seconds, least_s), 86_400))
