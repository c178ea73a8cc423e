"""The answers of a provider as values, and its well-known refusals by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Provider = Literal["fal", "replicate"]
Silence = Literal["drop", "hang"]


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; a `str` body is sent as HTML, anything else as JSON.

    A `bare` answer comes from a proxy in front of the provider and has none of the provider's own headers.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False


Answer = Reply | Silence

NGINX = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"  # noqa: E501
CLOUDFLARE = "<!DOCTYPE html><html><head><title>replicate.com | {0}</title></head><body><h1>{0}</h1><p>cloudflare</p></body></html>"  # noqa: E501
CUT_JSON = '{"status": "IN_QUEUE", "request_id": "'
POLICY = "The content could not be processed because it contained material flagged by a content checker."


def fal_flat(status: int, detail: str, error_type: str, **headers: str) -> Reply:
    """An error of fal's infrastructure, with its type in the body and in a header."""
    return Reply(status, {"detail": detail, "error_type": error_type}, {"x-fal-error-type": error_type, **headers})


def fal_model(status: int, kind: str, message: str, *, retryable: bool = False) -> Reply:
    """An error of the model itself, in the list form of fal's apps."""
    where = {"loc": ["body", "prompt"], "msg": message, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}
    return Reply(status, {"detail": [where]}, {"x-fal-retryable": "true" if retryable else "false"})


def replicate_problem(status: int, title: str, detail: str, **extra: Any) -> Reply:
    """An error of Replicate's API, in its problem-details form."""
    return Reply(status, {"title": title, "detail": detail, "status": status, **extra})


def fal_timeout() -> Reply:
    """fal's answer when the caller's start deadline has passed."""
    return fal_flat(504, "Request timed out", "request_timeout", **{"x-fal-request-timeout-type": "user"})


def throttled(seconds: int) -> Reply:
    """Replicate's 429, which resets in `seconds`."""
    detail = f"Request was throttled. Your rate limit resets in ~{seconds}s."
    return Reply(429, {"detail": detail, "status": 429, "retry_after": seconds}, {"retry-after": str(seconds)})


_LOCKED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
_CREDIT = (
    "You have insufficient credit to run this model. Go to https://replicate.com/account/billing#billing "
    "to purchase credit."
)
_UNAUTHENTICATED = "You did not pass a valid authentication token"
_SILENT: dict[str, Answer] = {"drop": "drop", "hang": "hang"}

FAL: dict[str, Answer] = _SILENT | {
    "unauthorized": Reply(401, {"detail": "Authentication is required to access this application."}),
    "balance": Reply(403, {"detail": _LOCKED}),
    "forbidden": Reply(403, {"detail": "Access to this application is forbidden for this key."}),
    "not_found": Reply(404, {"detail": 'Application "gone" not found'}),
    "validation": fal_model(422, "value_error", "The input is not valid for this model"),
    "content_policy": fal_model(422, "content_policy_violation", POLICY),
    "rate_limited": fal_flat(
        429,
        "Reached the limit of requests",
        "concurrent_requests_limit",
        **{"retry-after": "2", "x-fal-needs-retry": "1"},
    ),
    "downstream_400": fal_model(400, "downstream_service_error", "The downstream service failed", retryable=True),
    "generation_timeout": fal_model(504, "generation_timeout", "The generation took too long", retryable=True),
    "internal_500": fal_flat(500, "Internal Server Error", "internal_error"),
    "runner_503": fal_flat(503, "Could not schedule a runner", "runner_scheduling_failure"),
    "start_timeout": fal_timeout(),
    "nginx_502": Reply(502, NGINX.format("502 Bad Gateway"), bare=True),
    "nginx_503": Reply(503, NGINX.format("503 Service Temporarily Unavailable"), bare=True),
    "html_5xx": Reply(520, CLOUDFLARE.format("520: Web server is returning an unknown error"), bare=True),
    "malformed_json": Reply(200, CUT_JSON, {"content-type": "application/json"}),
}
FAL["credit"] = FAL["balance"]

REPLICATE: dict[str, Answer] = _SILENT | {
    "unauthorized": replicate_problem(401, "Unauthenticated", _UNAUTHENTICATED),
    "credit": replicate_problem(402, "Insufficient credit", _CREDIT),
    "forbidden": replicate_problem(403, "Forbidden", "You do not have permission to run this model."),
    "not_found": Reply(404, {"detail": "The requested resource could not be found.", "status": 404}),
    "validation": replicate_problem(
        422,
        "Input validation failed",
        "- input.prompt: The input is not valid for this model\n",
        invalid_fields=[{"type": "invalid", "field": "input.prompt", "description": "The input is not valid"}],
    ),
    "content_policy": replicate_problem(422, "Content flagged", "The input was flagged as sensitive. (E005)"),
    "rate_limited": throttled(2),
    "internal_500": replicate_problem(500, "Internal server error", "An unexpected error occurred."),
    "nginx_502": Reply(502, CLOUDFLARE.format("502: Bad gateway"), bare=True),
    "nginx_503": Reply(503, CLOUDFLARE.format("503: Service unavailable"), bare=True),
    "html_5xx": Reply(520, CLOUDFLARE.format("520: Web server is returning an unknown error"), bare=True),
    "malformed_json": Reply(201, CUT_JSON, {"content-type": "application/json"}),
}
REPLICATE["balance"] = REPLICATE["credit"]

PRESETS: dict[Provider, dict[str, Answer]] = {"fal": FAL, "replicate": REPLICATE}

REPLICATE_ERRORS = {
    "content_policy": "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
    "internal_500": "Prediction failed: an unknown error occurred. (E1000)",
    "out_of_memory": "The model ran out of memory. (E1001)",
    "start_timeout": "The model took too long to start. (E6716)",
    "health_check": "The model failed its health check. (E8765)",
}
"""The text of `prediction.error` for each failure that a rule can name."""
