"""The faults of providers as data: the rules of each, and the failure kinds that it explains."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.cluster.disturbances import Disturbance
from chaos.evidence.model import Window
from contracts.failures import FailureKind as Kind
from contracts.topics import ADAPTERS

PROVIDERS: Final = ("fal", "replicate")
_NO_MEDIA: Final = {"status": 500, "error": "nothing came of it", "error_type": "no_media_generated"}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a provider, for single requests or for a period."""

    rules: Sequence[Mapping[str, Any]]
    """Rules of the sandbox, without provider and prompt."""
    explains: frozenset[Kind] = frozenset()
    """How an attempt may fail because of it; if empty, the attempt has to succeed all the same. A submission stays
    ambiguous only if the deadline of the job comes first."""
    only: str | None = None
    """The only provider that it applies to; None for both."""
    explains_unread: Mapping[str, Kind] = field(default_factory=dict)
    """By provider, how an attempt may fail besides if the result of its run could not be read."""

    @property
    def hides_results(self) -> bool:
        """Whether the provider does not give the results of runs because of it."""
        return any("refuse" in rule["action"] and rule.get("on") == "result" for rule in self.rules)

    @property
    def refuses(self) -> bool:
        """Whether the provider refuses POSTs because of it."""
        return any("refuse" in rule["action"] and rule.get("on", "submit") == "submit" for rule in self.rules)


_LOST: Final = (Kind.AMBIGUOUS_SUBMISSION,)
"""What a lost answer explains if nothing resolves it before the deadline of the job."""
_REFUSED: Final = (*_LOST, Kind.NEVER_ACCEPTED)


def _submit(*explains: Kind, only: str | None = None, times: int | None = None, **action: Any) -> Fault:
    rule: dict[str, Any] = {"action": action} | ({"times": times} if times else {})
    return Fault([rule], frozenset(explains), only)


REQUEST_FAULTS: Final[dict[str, Fault]] = {
    # The provider accepts the run, and its answer is lost.
    "accept-drop": _submit(*_LOST, accept_then="drop"),
    "accept-hang": _submit(*_LOST, accept_then="hang"),
    "accept-502": _submit(*_LOST, accept_then="502"),
    "accept-garbled": _submit(*_LOST, accept_then="malformed_json"),
    "accept-slowly": _submit(*_LOST, delay_s=4),
    # The provider does not accept the run, and its answer does not prove that.
    "refuse-drop": _submit(*_REFUSED, refuse="drop"),
    "refuse-hang": _submit(*_REFUSED, refuse="hang"),
    "refuse-500": _submit(*_REFUSED, Kind.PROVIDER_ERROR, refuse="nginx_502"),
    # The provider refuses.
    "refuse-policy": _submit(Kind.CONTENT_POLICY, refuse="content_policy"),
    "refuse-input": _submit(Kind.INVALID_INPUT, refuse="validation"),
    # The run fails.
    "no-media": _submit(Kind.MODEL_ERROR, only="fal", fail=_NO_MEDIA),
    "out-of-memory": _submit(Kind.MODEL_ERROR, only="replicate", fail="out_of_memory"),
    # fal's status has one type for the start deadline and the limit of a run. The result tells them apart.
    "stuck-queue": Fault(
        [{"action": {"stuck_queue": True}}],
        frozenset({Kind.START_TIMEOUT}),
        explains_unread={"fal": Kind.RUN_TIMEOUT},
    ),
    # A fal run that may last longer than its route declares is the one case in which its absence is no proof.
    # While its status cannot be read as well, nothing shows that it has started.
    "run-too-long": _submit(Kind.RUN_TIMEOUT, Kind.START_TIMEOUT, only="fal", run_s=9),
    # Replicate itself ends it at the given deadline, and does not report that as the reason. It counts as not started
    # if neither its callback nor an answer says that it has.
    "never-finish": _submit(
        Kind.RUN_TIMEOUT, Kind.START_TIMEOUT, Kind.CANCELLED_BY_PROVIDER, only="replicate", never_finish=True
    ),
    # If it is noticed only after the deadline, the deadline may have been the reason.
    "aborted": _submit(Kind.CANCELLED_BY_PROVIDER, Kind.START_TIMEOUT, Kind.RUN_TIMEOUT, end_as="aborted"),
    "files-gone": _submit(Kind.OUTPUT_LOST, files="gone"),
    "files-html": _submit(Kind.OUTPUT_UNUSABLE, files="html"),
    "files-broken": _submit(Kind.OUTPUT_LOST, Kind.OUTPUT_UNUSABLE, files="broken"),
    # The result is requested until the fetching window ends; with the short times here, other limits may come first.
    "result-404": _submit(Kind.OUTPUT_LOST, Kind.START_TIMEOUT, Kind.RUN_TIMEOUT, result_404=True),
    "cancel-ignored": _submit(cancel="ignored"),
    # Its callbacks are faulty.
    **{f"webhook-{how}": _submit(webhook=[how]) for how in ("never", "late", "duplicate", "forged", "stale", "null")},
    "webhook-oversize": _submit(webhook=["oversize"]),
}

TIMED_FAULTS: Final[dict[str, Fault]] = {
    "lost-answers": _submit(*_LOST, accept_then="drop"),
    "502-after-accept": _submit(*_LOST, accept_then="502"),
    "slow": _submit(run_s=2.0, queue_s=1.0),
    "throttled": _submit(Kind.RATE_LIMITED, Kind.UNAVAILABLE, refuse="rate_limited", times=6),
    "hard-down": Fault(
        [{"action": {"refuse": "nginx_503"}, "on": on} for on in ("submit", "status", "result", "cancel", "list")],
        frozenset({*_REFUSED, Kind.PROVIDER_ERROR, Kind.UNAVAILABLE}),
    ),
    "no-credit": _submit(Kind.INSUFFICIENT_BALANCE, Kind.UNAVAILABLE, refuse="balance"),
    "key-refused": _submit(Kind.UNAUTHORIZED, Kind.UNAVAILABLE, refuse="unauthorized"),
    # To the request for a result, internal_500 is what fal answers if the run has failed.
    "deaf-polls": Fault(
        [
            {"action": {"refuse": "internal_500"}, "on": "status"},
            {"action": {"refuse": "nginx_503"}, "on": "result"},
        ]
    ),
    "no-listing": Fault([{"action": {"refuse": "internal_500"}, "on": "list"}]),
    "no-webhooks": _submit(webhook=["never"]),
}
PERSISTENT_FAULTS: Final = frozenset({"files-broken", "files-gone", "files-html", "result-404"})
"""Faults that are retried for as long as the job may take, since the output may still become available."""
CRASH_KINDS: Final = frozenset({Kind.NEVER_ACCEPTED, Kind.AMBIGUOUS_SUBMISSION, Kind.UNREACHABLE})
"""Failure kinds of a provider's attempts that its adapter explains, if it is killed or frozen, and so do the database,
the brokers, the network and the machine: an adapter may stop between recording the intent and the POST."""
RESTART_KINDS: Final = CRASH_KINDS | {Kind.STORE_FAILED}
"""Failure kinds that a restart explains: it interrupts a download, which may have been the last before the deadline."""


def disturbance_windows(disturbances: Iterable[Disturbance]) -> list[Window]:
    """The periods in which processes were disturbed, with the failures that explains at which provider.

    A submit is lost with the adapter of its provider. No other service sends any.
    """
    windows = []
    for one in disturbances:
        provider = one.service.removesuffix("-adapter") if one.service in ADAPTERS else None
        kinds = (RESTART_KINDS if one.how == "SIGTERM" else CRASH_KINDS) if provider else frozenset()
        # Others may take the place in the group of one that stood still, which ends upon waking.
        ends = frozenset({str(one.service)} if one.how == "SIGSTOP" else ())
        until = time.time() if one.ended is None else one.ended
        windows.append(
            Window(f"{one.how} {one.replica}", one.began, until, frozenset(map(str, kinds)), provider, ends=ends)
        )
    return windows


def timed_fault_rules(active: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rules of the active fault of each provider, by its name."""
    return [{"provider": one, **rule} for one, name in active.items() for rule in TIMED_FAULTS[name].rules]


def request_fault_rules() -> list[dict[str, Any]]:
    """The rules that a fault word in the prompt activates, for any provider or the only one it applies to."""
    return [
        {"prompt_contains": f"<{name}>", **rule} | ({"provider": fault.only} if fault.only else {})
        for name, fault in REQUEST_FAULTS.items()
        for rule in fault.rules
    ]


def explained(kind: Kind, provider: str, words: Sequence[str], windows: Sequence[Window]) -> bool:
    """Whether the fault words of a prompt, or a fault active at that time, explain a failure of this kind."""
    named, then = _named(provider, words), [one for one in windows if one.provider in (None, provider)]
    if any(one.hides_results for one in then) and any(one.explains_unread.get(provider) == kind for one in named):
        return True
    return any(kind in one.explains for one in named) or any(kind in one.explains for one in then)


def refused(provider: str, words: Sequence[str], windows: Sequence[Window]) -> bool:
    """Whether one of these faults makes a provider refuse a POST."""
    if any(one.refuses for one in _named(provider, words)):
        return True
    return any(one.provider in (None, provider) and one.refuses for one in windows)


def _named(provider: str, words: Sequence[str]) -> list[Fault]:
    faults = [REQUEST_FAULTS[word] for word in words]
    return [one for one in faults if one.only in (None, provider)]
