"""The report of a run: the injected faults, the results, and all violations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chaos.checks.checker import KINDS, Violation
from chaos.evidence.by_job import EvidenceByJob, group_by_job
from chaos.evidence.model import Evidence
from chaos.run import Result

SLOWEST: Final = 10
LABELS: Final = {"attempt.submitted": "found by a search or a callback", "attempt.cancelled": "cancelled, unsent"}


@dataclass(frozen=True, slots=True)
class Totals:
    """Values of the report that are not part of its results."""

    seed: int
    took_s: float
    kills: Mapping[str, int]
    faults: Mapping[str, int]
    resolutions: Mapping[str, int]
    overall: Sequence[Violation]
    """Violations that are visible only in the evidence of the whole run."""


def report(results: Sequence[Result], evidence: Evidence, totals: Totals) -> str:
    """The report in Markdown."""
    by_job = group_by_job(evidence)
    rows = [one for one in results if one.name.startswith("row")]
    storms = [one for one in results if one.name.startswith("storm")]
    violations = [*(v for one in results for v in one.violations), *totals.overall]
    parts = [
        "# Chaos report\n",
        _verdict(results, violations),
        "## Totals\n",
        _table(("what", "how many"), _totals(by_job, evidence, totals, len(rows), storms)),
        "## Kills\n",
        _table(("what was killed", "times"), sorted(totals.kills.items())),
        "## Other faults\n",
        _table(("what", "times"), sorted(totals.faults.items())),
        "## How jobs ended\n",
        _table(("end", "jobs"), _count(_job_ends(by_job))),
        "## How attempts ended\n",
        _table(("provider", "end", "attempts"), [(*what, n) for what, n in _count(_attempt_ends(by_job))]),
        "## Ambiguous submits, and how they were resolved\n",
        _table(("next event", "attempts"), _count(_after_ambiguity(by_job))),
        "By rung, from the metrics of adapters before they were killed (provider, rung, verdict):\n",
        _table(("counted", "at least"), sorted(totals.resolutions.items())),
        "## The fault matrix\n",
        _table(("row", "fault", "expected", "seen", "verdict"), map(_row, rows)) if rows else "No rows were run.\n",
        "## Storms\n",
        _table(("storm", "jobs and kills", "seconds", "verdict", "again with"), map(_storm, storms)),
        "## Slowest recoveries\n",
        _table(("seconds down", "what", "in"), _slowest(results)),
        "## Violations\n",
        _violations(results, totals.overall),
    ]
    return "\n".join(parts)


def _verdict(results: Sequence[Result], violations: Sequence[Violation]) -> str:
    counted = Counter(one.kind for one in violations)
    said = ", ".join(f"{kind.replace('_', ' ')} {counted[kind]}" for kind in KINDS)
    unclean = [one.name for one in results if not one.clean]
    return f"**{said}.** " + (f"Not clean: {', '.join(unclean)}.\n" if unclean else "Every row and storm is clean.\n")


def _totals(
    by_job: EvidenceByJob, evidence: Evidence, totals: Totals, rows: int, storms: Sequence[Result]
) -> list[tuple[str, object]]:
    posts = [entry for entry in evidence.bills if entry["event"] == "post"]
    billed = sum(entry["billed_usd"] for entry in evidence.bills if entry["event"] != "post")
    attempts = [attempt for job in by_job.jobs.values() for attempt in job.attempts.values()]
    ambiguous = [one for one in attempts if any(event.type == "attempt.ambiguous" for event in one.events)]
    answers = Counter(one.status for one in evidence.answers if one.call == "post")
    return [
        ("seed", totals.seed),
        ("rows of the matrix", rows),
        ("storms", len(storms)),
        ("minutes", f"{totals.took_s / 60:.1f}"),
        ("jobs accepted", sum(job.accepted for job in by_job.jobs.values())),
        ("answers that clients got", len(evidence.answers)),
        ("… POSTs answered 202, 503, not at all", f"{answers[202]}, {answers[503]}, {answers[None]}"),
        ("kills (SIGKILL, and crashes of Postgres)", sum(totals.kills.values())),
        ("other faults", sum(totals.faults.values())),
        ("events", len({event.event_id for event in evidence.events})),
        ("records that carry them", len(evidence.events)),
        ("attempts", len(attempts)),
        ("POSTs that providers got", len(posts)),
        ("… of which they accepted, which is a bill", sum(bool(post["accepted"]) for post in posts)),
        ("billed, USD", f"{billed:.2f}"),
        ("attempts that were ambiguous for a while", len(ambiguous)),
        ("dead letters not meant to be", len(evidence.dead_letters)),
    ]


def _job_ends(by_job: EvidenceByJob) -> list[str]:
    ends = [job.ends[-1] for job in by_job.jobs.values() if job.ends]
    return [f"{one.type.removeprefix('job.')}{_kind(one.data)}" for one in ends]


def _attempt_ends(by_job: EvidenceByJob) -> list[tuple[str, str]]:
    attempts = [attempt for job in by_job.jobs.values() for attempt in job.attempts.values()]
    ends = [(one.provider, one.end) for one in attempts if one.end is not None]
    return [(who, f"{end.type.removeprefix('attempt.')}{_kind(end.data)}") for who, end in ends]


def _kind(data: Mapping[str, Any]) -> str:
    return f": {data['kind']}" if data.get("kind") else ""


def _after_ambiguity(by_job: EvidenceByJob) -> list[str]:
    """The event that followed each attempt's last ambiguous state, as text."""
    said = []
    for attempt in (attempt for job in by_job.jobs.values() for attempt in job.attempts.values()):
        types = [event.type for event in attempt.events]
        if "attempt.ambiguous" in types:
            at = len(types) - 1 - types[::-1].index("attempt.ambiguous")
            after = attempt.events[at + 1] if at + 1 < len(types) else None
            said.append(
                LABELS.get(after.type, f"{after.type.removeprefix('attempt.')}{_kind(after.data)}")
                if after
                else "nothing"
            )
    return said


def _count(things: Iterable[Any]) -> list[tuple[Any, int]]:
    return Counter(things).most_common()


def _row(one: Result) -> tuple[object, ...]:
    verdict = "clean" if one.clean else f"NOT CLEAN: {one.error or ''} {len(one.violations)} violations"
    return one.name.removeprefix("row "), one.title, one.expects, "; ".join(one.seen), f"{verdict} ({one.took_s:.0f} s)"


def _storm(one: Result) -> tuple[object, ...]:
    verdict = "clean" if one.clean else f"NOT CLEAN: {one.error or ''} {len(one.violations)} violations"
    return one.name.removeprefix("storm "), one.title, f"{one.took_s:.0f}", verdict, f"`{one.replay}`"


def _slowest(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    all_ = sorted(((s, what, one.name) for one in results for s, what in one.recoveries), reverse=True)
    return [(f"{s:.1f}", what, where) for s, what, where in all_[:SLOWEST]]


def _violations(results: Sequence[Result], overall: Sequence[Violation]) -> str:
    lines = []
    for one in results:
        if one.clean:
            continue
        lines.append(f"### {one.name}\n\nReplay: `python -m chaos {one.replay}`\n")
        lines += [f"- {one.error}"] if one.error else []
        lines += [_line(violation) for violation in one.violations]
        if one.injections:
            lines.append("\n```\n" + "\n".join(one.injections) + "\n```")
    if overall:
        lines += ["### Over the whole run\n", *(_line(violation) for violation in overall)]
    return "\n".join(lines) + "\n" if lines else "None.\n"


def _line(one: Violation) -> str:
    return f"- **{one.kind}** {one.subject} ({one.token or 'no token'}): {one.evidence}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
