"""The fault rules, as the control API receives them, and the selection of the rule that applies."""

from typing import Any, Literal, Self

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from sandbox.http.responses import PRESETS, REPLICATE_ERRORS, Answer, Provider, Reply

Moment = Literal["submit", "status", "result", "cancel", "list", "probe", "keys"]
WebhookFault = Literal["never", "late", "duplicate", "forged", "stale", "null", "oversize"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomReply(_Message):
    """A complete answer instead of a named one; a `bare` one lacks the provider's own headers."""

    status: int = Field(ge=200, le=599)
    body: Any = None
    headers: dict[str, str] = {}
    bare: bool = False


class Failure(_Message):
    """How an accepted job fails: fal's result answers `status` and `body`, Replicate's prediction has `error`."""

    status: int = Field(default=500, ge=400, le=599)
    body: Any = None
    error: str | None = None
    error_type: str | None = None
    billed: bool = False


class OddFile(_Message):
    """How the URL of an output answers, and its content."""

    not_yet: int = Field(default=0, ge=0)
    """The number of requests that are answered with `status` first."""
    status: int = Field(default=404, ge=200, le=599)
    headers: dict[str, str] = {}
    coding: Literal["gzip", "aws-chunked"] | None = None
    """The actual encoding of the content; it is announced only by a header in `headers`."""
    content: Base64Bytes | None = None
    """The content instead of the usual file, in base64."""


class Action(_Message):
    """What happens to a request that a rule matches; fields can be combined. Durations are in seconds."""

    refuse: str | CustomReply | None = None
    delay_s: float = Field(default=0.0, ge=0)
    accept_then: Literal["drop", "hang", "502", "malformed_json"] | None = None
    queue_s: float | None = Field(default=None, ge=0)
    run_s: float | None = Field(default=None, ge=0)
    queue_position: int | None = Field(default=None, ge=0)
    stuck_queue: bool = False
    never_finish: bool = False
    fail: str | Failure | None = None
    result_404: bool = False
    unknown_status: str | None = None
    end_as: Literal["aborted", "canceled"] | None = None
    cancel: Literal["honoured", "ignored", "refused"] = "honoured"
    result: Any = None
    empty_first: int = Field(default=0, ge=0)
    unknown_first: int = Field(default=0, ge=0)
    logs_bytes: int = Field(default=0, ge=0)
    files: Literal["gone", "broken", "html"] | OddFile | None = None
    webhook: tuple[WebhookFault, ...] = ()

    def refusal(self, provider: Provider) -> Answer | None:
        """The answer that replaces an acceptance; None if this action does not refuse."""
        if isinstance(self.refuse, CustomReply):
            return Reply(self.refuse.status, self.refuse.body, self.refuse.headers, self.refuse.bare)
        return None if self.refuse is None else PRESETS[provider][self.refuse]


class Rule(_Message):
    """One fault: the requests it matches, how many of them (all if unset), and the action."""

    provider: Provider | None = None
    endpoint: str | None = None
    prompt_contains: str | None = None
    on: Moment = "submit"
    times: int | None = Field(default=None, ge=1)
    action: Action

    @model_validator(mode="after")
    def _presets_exist(self) -> Self:
        providers: list[Provider] = [self.provider] if self.provider else ["fal", "replicate"]
        for provider in providers:
            known = PRESETS[provider]
            if isinstance(self.action.refuse, str) and self.action.refuse not in known:
                raise ValueError(f"{provider} has no refusal named {self.action.refuse!r}: one of {sorted(known)}")
            failures = {name for name, reply in known.items() if isinstance(reply, Reply)}
            failures |= set(REPLICATE_ERRORS) if provider == "replicate" else set()
            if isinstance(self.action.fail, str) and self.action.fail not in failures:
                raise ValueError(f"{provider} has no failure named {self.action.fail!r}: one of {sorted(failures)}")
        return self

    def matches(self, provider: Provider, on: Moment, endpoint: str | None, prompt: str) -> bool:
        """Whether this rule applies to such a request."""
        return (
            self.on == on
            and self.provider in (None, provider)
            and self.endpoint in (None, endpoint)
            and (self.prompt_contains is None or self.prompt_contains in prompt)
        )


class Faults:
    """The active rules; the first match applies. A rule with `times` is removed after that number of uses."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._left: list[int | None] = []

    def put(self, rules: list[Rule]) -> None:
        """Replaces all rules."""
        self._rules, self._left = [], []
        self.add(rules)

    def add(self, rules: list[Rule]) -> None:
        """Appends rules after the active ones."""
        self._rules += rules
        self._left += [rule.times for rule in rules]

    def take(self, provider: Provider, on: Moment, endpoint: str | None = None, prompt: str = "") -> Action | None:
        """The action of the first rule that matches, which counts as one use of it; None if no rule matches."""
        for i, rule in enumerate(self._rules):
            if not rule.matches(provider, on, endpoint, prompt):
                continue
            left = self._left[i]
            if left is not None:
                self._left[i] = left - 1
                if left == 1:
                    del self._rules[i], self._left[i]
            return rule.action
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """The active rules, each with its remaining uses."""
        pairs = zip(self._rules, self._left, strict=True)
        return [rule.model_dump(mode="json", exclude_defaults=True) | {"left": left} for rule, left in pairs]
