"""The terminal output of the demo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from segue_cli.commands.api import DEFAULT
from segue_cli.demo.verdict import Claim, Sound
from segue_cli.stack.components import from_here, spoken
from segue_cli.stack.folder import State
from segue_cli.views.console import curl, plain_table, usd
from segue_cli.views.jobs import short, when

_TAIL_LINES: Final = 12
_STEPS: Final[dict[str, tuple[str, str, str]]] = {
    "job.requested": ("•", "dim", "taken on"),
    "job.accepted": ("•", "dim", "planned"),
    "attempt.submitting": ("→", "cyan", "submitted to {provider}"),
    "attempt.submitted": ("✓", "cyan", "accepted by {provider}"),
    "attempt.failed": ("✗", "bold red", "refused by {provider}"),
    "attempt.ambiguous": ("?", "yellow", "unclear at {provider}"),
    "attempt.succeeded": ("✓", "green", "stored"),
    "job.rerouted": ("↷", "bold yellow", "moved on"),
    "job.started": ("•", "dim", "under way"),
    "job.succeeded": ("✓", "bold green", "succeeded"),
    "job.failed": ("✗", "bold red", "failed"),
}


def step(entry: Mapping[str, Any], begin: datetime, http_status: int | None) -> Text:
    """One event of the job as a line; with the provider's HTTP status if it refused."""
    mark, style, words = _STEPS.get(short(entry["event"]), ("…", "cyan", "at {provider}"))
    after = (when(entry["time"]) - begin).total_seconds()
    line = Text(f"  +{after:6.2f} s  ", style="dim")
    line.append(f"{mark} {words.format(provider=entry['provider']):<24}", style=style)
    if http_status is not None:
        line.append(f" {http_status}", style="bold red")
    return line.append(f" {entry['message'] or ''}")


def tell_verdict(
    screen: Console, verdict: Sequence[Claim], bills: Mapping[str, Any], sound: Sound | None, took_s: float
) -> None:
    """Print the bills, the file, and each claim with what was found."""
    table = plain_table("provider", "POSTs", "refused", "accepted", "would have billed", title="\nWho is paid")
    for name, total in bills["totals"].items():
        counts = (str(total[column]) for column in ("posts", "refused", "accepted"))
        table.add_row(name, *counts, usd(total["billed_usd"]))
    screen.print(table)
    if sound is not None:
        screen.print(Text(f"\nThe audio: {from_here(sound.path)}  ({sound.seconds:.1f} s, WAV)"), soft_wrap=True)
    screen.print()
    for claim in verdict:
        mark, style = ("✓", "green") if claim.holds else ("✗", "bold red")
        screen.print(Text(f"{mark} {claim.text}" + ("" if claim.holds else f": found {claim.found}"), style=style))
    screen.print(f"\n{took_s:.1f} s from start to end.")


def tell_how_to_go_on(screen: Console) -> None:
    """Print suggestions for the next steps."""
    screen.print("\n[bold]Go on[/]")
    screen.print("  make up             keeps it running, and prints where everything is")
    screen.print(Text(f"  {curl(DEFAULT)}"), soft_wrap=True)
    screen.print(f"  {DEFAULT}/docs   the API, to try out")


def tell_what_went_wrong(screen: Console, state: State, kept: Path) -> None:
    """Print the last error messages of each part that logged some, and the path of the complete logs."""
    for log in sorted(state.logs.glob("*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()
        complaints = [line for line in lines if _complains(line)][-_TAIL_LINES:]
        if complaints:
            screen.print(f"\n[bold]{log.stem}[/] said:")
            screen.print(Text("\n".join(f"  {spoken(line)}" for line in complaints)), soft_wrap=True)
    screen.print(Text(f"\nThe whole logs are in {from_here(kept)}."))


def _complains(line: str) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return "cannot start" in line or "Error" in line or "FATAL" in line
    return isinstance(said, dict) and said.get("level") in ("warning", "error", "critical")
