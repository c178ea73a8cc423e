"""The state of the providers as text, for 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from segue_cli.views.console import plain_table
from segue_cli.views.jobs import span, when

_STYLES: Final = {"ok": "green", "fail": "bold red", "disabled": "dim"}
_BREAKERS: Final = {"closed": "green", "half_open": "yellow", "open": "bold red"}


def providers_screen(document: Mapping[str, Any]) -> RenderableType:
    """All providers: a table of them and their endpoints, and a few sentences on each."""
    now = when(document["as_of"])
    table = plain_table("", "", "breaker", "errors", "p50", "p95", "run", "wait")
    for provider in document["providers"]:
        table.add_row(*_row(Text(provider["provider"], style="bold"), provider))
        for endpoint in provider["endpoints"]:
            table.add_row(*_row(Text(f"  {endpoint['endpoint']}"), endpoint))
    about = [part for provider in document["providers"] for part in _about(provider, now)]
    minutes = document["window_s"] / 60
    note = f"errors, p50 and p95: the last {minutes:.0f} min; errors that speak of the provider, of all that ended"
    return Group(table, Text(note, style="dim"), Text(), *about)


def _row(name: Text, each: Mapping[str, Any]) -> tuple[Text, ...]:
    recent, breaker = each["recent"], each["breaker"]["state"]
    errors = Text("-") if not recent["ended"] else Text(f"{recent['provider_failed']}/{recent['ended']}")
    if recent["provider_failed"]:
        errors.stylize("red")
    return (
        name,
        Text(each["status"], style=_STYLES.get(each["status"], "")),
        Text(breaker.replace("_", "-"), style=_BREAKERS.get(breaker, "")),
        errors,
        Text(_seconds(recent["p50_s"])),
        Text(_seconds(recent["p95_s"])),
        Text(str(each["in_flight"]["total"])),
        Text(str(each["queued"]["total"])),
    )


def _about(provider: Mapping[str, Any], now: datetime) -> Iterator[RenderableType]:
    yield Text(provider["provider"], style="bold").append(f"  {_head(provider, now)}", style="not bold")
    for sentence in _sentences(provider, now):
        yield Padding(sentence, (0, 0, 0, 2))


def _sentences(provider: Mapping[str, Any], now: datetime) -> Iterator[Text]:
    if provider["error"]:
        yield Text(provider["error"], style="red")
    for each in (provider, *provider["endpoints"]):
        if each["breaker"]["state"] != "closed":
            yield Text(_breaker(each, now), style="yellow")
        error = each["last_error"]
        if error and error["message"] != provider["error"]:
            breaker = each["breaker"]
            over = breaker["state"] == "closed" and not breaker["failures"]
            what, style = ("recovered from an error", "dim") if over else ("last error", "yellow")
            yield Text(f"{_name(each)}{what}{_ago(error['at'], now)}: {_said(error)}", style=style)
    yield Text(f"now: {_now(provider)}")
    if failing := provider.get("fetches_failing"):
        yield Text(
            f"outputs that could not be fetched yet, and are tried again: of {failing} in flight", style="yellow"
        )
    webhooks = provider["webhooks"]
    if webhooks["expected"]:
        arriving = "arriving" if webhooks["arriving"] else "not arriving"
        yield Text(f"webhooks: {arriving}, {webhooks['heard']} of the last {webhooks['expected']} arrived")


def _head(provider: Mapping[str, Any], now: datetime) -> str:
    if provider["status"] == "disabled":
        return "not enabled: SEGUE_PROVIDERS leaves it out"
    since = f" for {span((now - when(provider['since'])).total_seconds())}" if provider["since"] else ""
    probe = provider["probe"]
    asked = f", credential probe{_ago(probe['checked_at'], now)}: {probe['status']}" if probe else ""
    return f"{provider['status']}{since}{asked}"


def _breaker(each: Mapping[str, Any], now: datetime) -> str:
    breaker = each["breaker"]
    since = f" for {span((now - when(breaker['since'])).total_seconds())}" if breaker["since"] else ""
    wait_s = (when(breaker["retry_at"]) - now).total_seconds() if breaker["retry_at"] else 0.0
    if breaker["state"] == "half_open" and wait_s > 0:
        then = "one attempt is under way as the probe"
    else:
        then = f"asked again in {span(wait_s)}" if wait_s > 0 else "the next attempt passes as the probe"
    return f"{_name(each)}{breaker['state'].replace('_', '-')}{since}; {then}"


def _now(provider: Mapping[str, Any]) -> str:
    flight, queued, caps = provider["in_flight"], provider["queued"], provider["caps"]
    parts = [f"{n} {name}" for name, n in flight.items() if n and name != "total"]
    under_way = f"{flight['total']} in flight" + (f" ({', '.join(parts)})" if parts else "")
    waiting = f"{queued['total']} waiting" + (f" ({queued['held_back']} held back)" if queued["held_back"] else "")
    limits = [f"{caps['concurrent_runs']} at a time"] if caps["concurrent_runs"] else []
    limits += [f"{caps['submits_per_minute']} a minute"] if caps["submits_per_minute"] else []
    late = f", {provider['late']} late" if provider["late"] else ""
    return f"{under_way}, {waiting}{late}; " + (f"at most {' and '.join(limits)}" if limits else "no caps")


def _name(each: Mapping[str, Any]) -> str:
    return f"{each['endpoint']}: " if "endpoint" in each else ""


def _said(error: Mapping[str, Any]) -> str:
    return ": ".join(part for part in (error["kind"], error["message"]) if part)


def _ago(at: str | None, now: datetime) -> str:
    return f" {span((now - when(at)).total_seconds())} ago" if at else ""


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"
