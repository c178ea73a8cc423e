"""Findings about keys and providers' refusals: what each means, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, assert_never

from adapter_kit.port.outcomes import KeyAccepted, KeyRefused, NoAnswer, ProbeOutcome
from chassis.settings.header_values import header_fault
from contracts.failures import FailureKind
from contracts.generation import Provider

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and what to do about it."""

    what: str
    verdict: Verdict
    found: str
    todo: str = ""


FAL_KEYS: Final = "https://fal.ai/dashboard/keys"
FAL_BILLING: Final = "https://fal.ai/dashboard/billing"
REPLICATE_TOKENS: Final = "https://replicate.com/account/api-tokens"
REPLICATE_BILLING: Final = "https://replicate.com/account/billing"

_TOKEN_CHARS: Final = 40

_CAUSES: Final[dict[tuple[Provider, FailureKind], str]] = {
    ("fal", FailureKind.UNAUTHORIZED): (
        "Likely causes, in this order: the key was revoked or deleted; its format is off, one half of "
        f"id:secret being cut or mistyped; it belongs to another account. Make a new one at {FAL_KEYS}."
    ),
    ("fal", FailureKind.FORBIDDEN): (
        "Likely causes, in this order: the key's scope does not include the API; the account has no access to this "
        "model, which some models need; the key was revoked; the balance is used up. "
        f"Keys and scopes: {FAL_KEYS}, balance: {FAL_BILLING}."
    ),
    ("fal", FailureKind.INSUFFICIENT_BALANCE): (
        f"The account is locked because its balance is used up: top it up at {FAL_BILLING}. "
        "The key itself is fine. Until then jobs go to the next provider."
    ),
    ("replicate", FailureKind.UNAUTHORIZED): (
        f"Likely causes: the token was revoked, or is cut or mistyped. Make a new one at {REPLICATE_TOKENS}."
    ),
    ("replicate", FailureKind.FORBIDDEN): (
        f"The token may not do this: it is of another organisation, or limited. Look at {REPLICATE_TOKENS}."
    ),
    ("replicate", FailureKind.INSUFFICIENT_BALANCE): f"The account has no credit: buy some at {REPLICATE_BILLING}.",
}


def fal_key(key: str | None, other: str | None) -> Finding:
    """Whether FAL_KEY, or FAL_API_KEY instead of it, has the form of a key."""
    what = "FAL_KEY"
    found = key or other
    if not found:
        todo = f"Make one at {FAL_KEYS} and put FAL_KEY=id:secret into .env. `segue up` does without: it has a sandbox."
        return Finding(what, "fail", "neither FAL_KEY nor FAL_API_KEY is set in this environment", todo)
    key_id, _, secret = found.partition(":")
    if fault := header_fault(found):
        name = what if key else "FAL_API_KEY"
        return Finding(what, "fail", f"{name}: {fault}", "Copy it again, without spaces and quotes.")
    if not key_id or not secret:
        todo = (
            f"It has two halves, id:secret, which {FAL_KEYS} shows together once. Make a new one if one half is lost."
        )
        return Finding(what, "fail", f"is not of the form id:secret: {len(found)} characters", todo)
    shape = f"id {_start(key_id)}…, secret {len(secret)} characters"
    if key and other and key != other:
        return Finding(
            what, "warn", f"{shape}; FAL_API_KEY differs", "FAL_KEY is the one that is used; remove the other."
        )
    return Finding(what, "ok", shape if key else f"{shape} (from FAL_API_KEY)")


def replicate_token(token: str | None) -> Finding:
    """Whether REPLICATE_API_TOKEN has the form of a token."""
    what = "REPLICATE_API_TOKEN"
    if not token:
        todo = f"Make one at {REPLICATE_TOKENS} and put it into .env. `segue up` does without: it has a sandbox."
        return Finding(what, "fail", "is not set in this environment", todo)
    if fault := header_fault(token):
        return Finding(what, "fail", f"{what}: {fault}", "Copy it again, without spaces and quotes.")
    if not token.startswith("r8_"):
        todo = f"Tokens start with r8_, as {REPLICATE_TOKENS} shows them."
        return Finding(what, "fail", f"does not start with r8_: {len(token)} characters", todo)
    shape = f"r8_…, {len(token)} characters"
    if len(token) != _TOKEN_CHARS:
        todo = f"Tokens have {_TOKEN_CHARS}: is it whole?"
        return Finding(what, "warn", shape, todo)
    return Finding(what, "ok", shape)


def left_out(missing: Finding, provider: Provider) -> Finding:
    """A missing key of a provider that can be done without, since there is another's."""
    return Finding(missing.what, "warn", f"{missing.found}: {provider} is left out", missing.todo)


def probed(provider: Provider, outcome: ProbeOutcome, asked: str) -> Finding:
    """The meaning of a provider's answer to a free request."""
    what = f"{provider} accepts the key"
    match outcome:
        case KeyAccepted():
            return Finding(what, "ok", f"yes, at {asked}; whether there is credit left shows only with the first run")
        case KeyRefused(failure):
            status = f"{failure.http_status}: " if failure.http_status else ""
            advice = _CAUSES.get(
                (provider, failure.kind), "The provider answered something unusual; its words are here."
            )
            return Finding(what, "fail", f"{status}{failure.message}", advice)
        case NoAnswer(reason):
            hosts = "FAL_API_URL, FAL_RUN_HOST, FAL_QUEUE_RUN_HOST" if provider == "fal" else "REPLICATE_BASE_URL"
            todo = f"Check the network, a firewall, and {hosts} and SSL_CERT_FILE if they are set."
            return Finding(what, "fail", f"no answer from {asked}: {reason}", todo)
        case _:
            assert_never(outcome)


def _start(text: str) -> str:
    """The first few characters, at most half of them."""
    return text[: min(4, len(text) // 2)]
