"""Attempts as text for operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from segue_cli.views.console import state, usd
from segue_cli.views.jobs import span, when

_WIDTHS = (39, 9, 9, 6)


def attempts_list(attempts: Iterable[Mapping[str, Any]], now: datetime) -> RenderableType:
    """Attempts in lines of less than 80 characters; under each ambiguous one, what to search for at the provider."""
    lines: list[RenderableType] = [_line(*(Text(name, style="bold") for name in ("attempt", "provider", "state")),
                                         Text("sent", style="bold"), Text("price", style="bold"))]  # fmt: skip
    for attempt in attempts:
        sent = attempt["submitting_at"]
        age = span((now - when(sent)).total_seconds()) if sent else "-"
        price = usd(attempt["price_usd"] if attempt["cost_usd"] is None else attempt["cost_usd"])
        lines.append(
            _line(Text(attempt["id"]), Text(attempt["provider"]), state(attempt["state"]), Text(age), Text(price))
        )
        if attempt["ambiguous"]:
            lines.append(Padding(Text(_what_to_do(attempt), overflow="fold"), (0, 0, 1, 2)))
    return Group(*lines)


def told_apart(attempt: Mapping[str, Any], *, settled: bool) -> str:
    """What became of an attempt, its job and its cost; before it is resolved, of the operator's report."""
    provider, job, ref = attempt["provider"], attempt["job_id"], attempt["provider_ref"]
    cost = "what it cost is not known" if attempt["cost_usd"] is None else f"it cost {usd(attempt['cost_usd'])}"
    ended = f"its job had gone on without it, and is {attempt['job_status']}"
    watch = f"Watch the job with:  segue logs {job} --follow"
    match attempt["state"]:
        case "succeeded" if attempt["late"]:
            return f"{provider} had made it: its files are kept on the attempt, and {cost}; {ended}.\nsegue job {job}"
        case "succeeded":
            return f"{provider} made it, and {cost}; the job has its files.\nsegue job {job}"
        case "cancelled":
            return f"The run {ref} at {provider} was stopped; {cost}."
        case "failed" if not settled:
            return f"{provider}'s adapter looks after it, and does not know more yet; {ended}.\n{watch}"
        case "failed" if attempt["late"]:
            return f"It failed ({attempt['error_kind']}): {attempt['message']}; {cost}, and {ended}."
        case "failed":
            return f"It failed ({attempt['error_kind']}), and {cost}; the job is {attempt['job_status']}.\n{watch}"
        case "ambiguous":
            return f"{provider}'s adapter has not confirmed your report yet.\n{watch}"
    return f"It runs at {provider} as {ref}, and the job goes on with it.\n{watch}"


def _line(*cells: Text) -> Text:
    line = Text(no_wrap=True)
    for cell, width in zip(cells, _WIDTHS, strict=False):
        cell.pad_right(max(0, width - len(cell)))
        line.append_text(cell).append("  ")
    return line.append_text(cells[-1])


def _what_to_do(attempt: Mapping[str, Any]) -> str:
    told = [f"Look for {attempt['look_for']}"]
    if attempt["state"] == "ambiguous" and attempt["resolve_by"]:
        earliest = f"{when(attempt['resolve_by']):%H:%M:%S} UTC at the earliest"
        told.append(f"Once the provider's list answers and shows no run, it counts as never accepted, at {earliest}.")
    if attempt["job_status"] in {"queued", "running"} and attempt["job_deadline_at"]:
        told.append(f"The job's deadline is at {when(attempt['job_deadline_at']):%H:%M:%S} UTC.")
    else:
        told.append(f"The job is {attempt['job_status']}, and stays so.")
    return " ".join(told)
