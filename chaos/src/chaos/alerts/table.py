"""The results of cases, kept between runs, and the table that is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos.alerts.case import Case

HEAD = ("fault", "alerts that fired, with the seconds", "as expected")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case came to."""

    name: str
    fired: Mapping[str, float]
    """Each alert that fired during the fault, with the seconds from its beginning."""
    after: Sequence[str]
    """Alerts that fired only after the fault was over."""
    cleared: bool
    """Whether all of them ended by themselves."""
    clear_s: float
    error: str | None = None


def faults(case: Case, outcome: Outcome) -> list[str]:
    """What is not as expected, one line each."""
    lines = [outcome.error] if outcome.error else []
    lines += [f"{name} did not fire" for name in sorted(case.expected - outcome.fired.keys())]
    allowed = case.expected | case.may.keys()
    lines += [f"{name} fired and was not expected" for name in sorted({*outcome.fired, *outcome.after} - allowed)]
    lines += [] if outcome.cleared else ["not every alert ended"]
    return lines


def markdown(cases: Iterable[Case], outcomes: Mapping[str, Outcome]) -> str:
    """The table of the cases that have an outcome."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|---|---|"]
    for case in cases:
        if (outcome := outcomes.get(case.name)) is None:
            continue
        fired = [
            _named(name, f"{outcome.fired[name]:.0f}", case)
            for name in sorted(outcome.fired, key=outcome.fired.__getitem__)
        ]
        fired += [_named(name, "afterwards", case) for name in sorted(outcome.after)]
        wrong = faults(case, outcome)
        lines.append(f"| {case.says} | {', '.join(fired) or 'none'} | {'; '.join(wrong) or 'yes'} |")
    return "\n".join(lines)


def _named(name: str, when: str, case: Case) -> str:
    if name in case.expected:
        return f"**{name} {when}**"
    return f"{name} {when} ({case.may[name]})" if name in case.may else f"{name} {when}"


def read(path: Path) -> dict[str, Outcome]:
    """The outcomes of earlier runs; none if there is no file."""
    if not path.exists():
        return {}
    return {name: Outcome(**kept) for name, kept in json.loads(path.read_text("utf-8")).items()}


def write(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Keep the outcomes for the next run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: asdict(one) for name, one in outcomes.items()}, indent=1), "utf-8")
