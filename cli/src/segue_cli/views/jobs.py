"""Jobs and their logs as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segue_cli.views.console import plain_table, state, usd

_COLOURS = {
    "attempt.failed": "red",
    "job.failed": "red",
    "attempt.ambiguous": "yellow",
    "job.rerouted": "yellow",
    "attempt.succeeded": "green",
    "job.succeeded": "bold green",
    "attempt.submitted": "cyan",
    "job.started": "cyan",
}


def jobs_table(jobs: Iterable[Mapping[str, Any]], now: datetime) -> Table:
    """A table of the newest jobs; with the kind of their failures if any of them failed."""
    listed = list(jobs)
    why = ["why"] if any(job["error"] for job in listed) else []
    table = plain_table("job", "status", *why, "model", "provider", "attempts", "age", "cost")
    for job in listed:
        age = now - when(job["requested_at"])
        tries = str(len(job["attempts"]))
        model, provider = job["model"] or "-", job["provider"] or "-"
        kind = [job["error"]["kind"] if job["error"] else "" for _ in why]
        rest = model, provider, tries, span(age.total_seconds()), cost(job)
        table.add_row(job["id"], state(job["status"]), *kind, *rest)
    return table


def job_screen(job: Mapping[str, Any], api: str) -> RenderableType:
    """The details of one job."""
    head = plain_table("", "")
    head.show_header = False
    head.add_row("job", job["id"])
    head.add_row("track", job["track_id"])
    head.add_row("status", state(job["status"]))
    head.add_row("model", job["model"] or "-")
    head.add_row("cost", "not known" if job["cost_usd"] is None else f"{cost(job)} expected")
    head.add_row("trace", Text(job.get("trace_url") or job["trace_id"] or "-"))
    if error := job["error"]:
        head.add_row("error", Text(f"{error['kind']}: {error['message']}", style="red"))
    if cancel := job["cancel"]:
        head.add_row("cancel", Text(f"{cancel['effect']}: {cancel['message']}", style="yellow"))
    for artifact in job["artifacts"]:
        head.add_row("file", _file(artifact, api))
    for attempt in job["attempts"]:
        for artifact in attempt["late_artifacts"]:
            head.add_row("late file", _file(artifact, api))
    if job.get("stale"):
        head.add_row("", Text("The database is unavailable: this is what Kafka has so far.", style="yellow"))
    return Group(head, Text(), attempts_table(job)) if job["attempts"] else head


def _file(artifact: Mapping[str, Any], api: str) -> Text:
    seconds = artifact.get("duration_s")
    length = f", {seconds:.1f} s" if seconds else ""
    url = artifact["url"] if artifact["url"].startswith("http") else api + artifact["url"]
    return Text(f"{url}  ({artifact['size_bytes']:,} bytes{length})")


def attempts_table(job: Mapping[str, Any]) -> Table:
    """A table of a job's attempts, with the provider's messages."""
    table = plain_table("attempt", "provider", "endpoint", "state", "why", "provider's id", "cost")
    for each in job["attempts"]:
        late = "known late" if each["late"] else None
        why = ": ".join(part for part in (late, each["error_kind"], each["message"]) if part)
        known = each["endpoint"] or "-", state(each["state"]), why, each["provider_ref"] or "-"
        table.add_row(str(each["attempt"]), each["provider"], *known, usd(each["cost_usd"]))
    return table


def log_table(entries: Iterable[Mapping[str, Any]]) -> Table:
    """A table of a job's log; times count from its first line."""
    table = plain_table("time", "event", "attempt", "provider", "code", "message")
    begin: datetime | None = None
    for entry in entries:
        begin = begin or when(entry["time"])
        table.add_row(*log_cells(entry, begin))
    return table


def log_cells(entry: Mapping[str, Any], begin: datetime) -> tuple[Text, ...]:
    """The cells of one log line."""
    event = short(entry["event"])
    # If a service's clock is behind, its time may be earlier than the first one.
    after = f"{(when(entry['time']) - begin).total_seconds():+.3f}s"
    attempt = "" if entry["attempt"] is None else str(entry["attempt"])
    return (
        Text(after, style="dim"),
        Text(event, style=_COLOURS.get(event, "")),
        Text(attempt),
        Text(entry["provider"] or ""),
        Text(entry["error_code"] or "", style="red"),
        Text(entry["message"] or ""),
    )


def log_line(entry: Mapping[str, Any], begin: datetime) -> Text:
    """A log entry as a single line, for a log that is followed."""
    after, event, attempt, provider, code, message = log_cells(entry, begin)
    widths = ((after, 10), (event, 19), (attempt, 2), (provider, 10))
    line = Text()
    for cell, width in widths:
        cell.pad_right(max(0, width - len(cell)))
        line.append_text(cell).append(" ")
    if len(code):
        line.append_text(code).append(" ")
    return line.append_text(message)


def short(event: str) -> str:
    """The short name of an event type: `segue.attempt.failed.v1` is attempt.failed."""
    bare = event.removeprefix("segue.")
    head, _, version = bare.rpartition(".v")
    return head if head and version.isdigit() else bare


def when(text: str) -> datetime:
    """Parse a time of the API."""
    return datetime.fromisoformat(text).astimezone(UTC)


def span(seconds: float) -> str:
    """A duration as text, rounded."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def cost(job: Mapping[str, Any]) -> str:
    """The cost of the job, all attempts together, as text."""
    return usd(job["cost_usd"])
