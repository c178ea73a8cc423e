"""The results of a run as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from bench.accepted import Answers
from bench.extended.flight import Flight
from bench.extended.logs_at_scale import Read
from bench.measures import Throughput
from bench.rounds import ANSWER_S, AT_ONCE, CELERY_STACK, KEYED, SEGUE, Results

T = TypeVar("T")
HEAD = """# Results

Written by `make bench`; what it measures is in [README.md](README.md). A figure in parentheses is the range over the
rounds. Ratios are medians of the pairs of one round each.

![Throughput and latency](results.svg)
"""


def report(results: Results) -> str:
    """The document."""
    parts = [HEAD, "## Conditions\n", table(("what", "value"), results.conditions.items())]
    parts += [f"{line}\n" for line in results.skipped]
    parts += (
        _throughput(results.throughput)
        + _answers(results.answers)
        + _alone(results)
        + _idle(results)
        + _held(results)
        + _sink(results)
    )
    parts += _at_scale(results) + _pauses(results)
    return "\n".join(parts)


def _throughput(rounds: dict[str, list[Throughput]]) -> list[str]:
    rows = [
        (
            name,
            str(found[0].jobs),
            spread([each.jobs_per_s for each in found]),
            spread([each.cpu_ms_per_job for each in found]),
            _against(rounds, name, lambda each: each.jobs_per_s),
            ", ".join(f"{part} {_median(found, part):.1f}" for part in found[0].cpu_ms),
        )
        for name, found in rounds.items()
    ]
    ours = rounds[SEGUE]
    requests = statistics.median(each.requests for each in ours)
    connections = statistics.median(each.connections for each in ours)
    return [
        "## Failover jobs\n",
        f"The jobs of a round are requested over {AT_ONCE} connections.\n",
        f"Each POST to a provider is answered after {1000 * ANSWER_S:.0f} ms. All POSTs are real.\n",
        table(("system", "jobs a round", "jobs/s", "CPU ms per job", "Segue makes", "of which"), rows),
        f"Segue's providers saw {requests:.1f} requests and {connections:.1f} new connections per job.\n",
    ]


def _median(found: Sequence[Throughput], part: str) -> float:
    return statistics.median(each.cpu_ms[part] for each in found)


def _answers(rounds: dict[str, list[Answers]]) -> list[str]:
    rows = [
        (
            name,
            spread([each.per_s for each in found], 0),
            spread([each.cpu_ms for each in found], 2),
            spread([each.client_cpu_ms for each in found], 2),
            _against(rounds, name, lambda each: each.per_s),
        )
        for name, found in rounds.items()
    ]
    return [
        "## Accepted requests of one endpoint process\n",
        "32 at a time. Nothing works on the jobs meanwhile. Segue answers once all in-sync replicas have the job.\n",
        table(("endpoint", "requests/s", "CPU ms per request", "CPU ms of the client", "Segue accepts"), rows),
        *_with_a_key(rounds),
    ]


def _with_a_key(rounds: dict[str, list[Answers]]) -> list[str]:
    if not {KEYED, CELERY_STACK} <= rounds.keys():
        return []
    keyed = _against(rounds, CELERY_STACK, lambda each: each.per_s, ours=KEYED)
    return [f"With an Idempotency-Key, Segue accepts {keyed}.\n"]


def _against(rounds: dict[str, list[T]], name: str, rate: Callable[[T], float], ours: str = SEGUE) -> str:
    if name.startswith(SEGUE):
        return ""
    pairs = zip(rounds[ours], rounds[name], strict=True)
    return f"{spread([rate(one) / rate(other) for one, other in pairs])} times as many"


def _alone(results: Results) -> list[str]:
    parts = []
    if (found := results.latencies) is not None:
        rows = {
            "POST → first provider's submit": found.to_provider,
            "refusal → next provider's submit": found.to_next,
            "webhook → told to a client that waits": found.to_visible,
        }
        parts += ["## One job at a time\n"]
        parts += [table(("latency", "p50 ms", "p99 ms"), ((name, *map(str, pair)) for name, pair in rows.items()))]
    if (cost := results.cost) is not None:
        parts += ["The least that one job caused; see [the budget](../docs/job-budget.md):\n"]
        parts += [table(("what", "count"), ((what, str(n)) for what, n in cost.rows().items()))]
    return parts


def _idle(results: Results) -> list[str]:
    shares = ", ".join(f"{part} {100 * cores:.1f}" for part, cores in results.idle.items())
    total = 100 * sum(results.idle.values())
    return ["## Without any job\n", f"Segue keeps {total:.1f} % of one core busy ({shares}).\n"] if shares else []


def _held(results: Results) -> list[str]:
    if not results.held:
        return []
    rows = [
        (str(each.in_flight), f"{each.cpu_ms_per_job:.1f}", f"{each.waiting_cpu:.2f}", f"{each.resident_mb:.0f}")
        for each in results.held
    ]
    head = ("jobs in flight", "CPU ms per further job", "cores busy while they wait", "resident MB of their adapter")
    return ["## Jobs in flight\n", table(head, rows), *_flight(results.flight)]


def _flight(found: Flight | None) -> list[str]:
    if found is None:
        return []
    said = (
        f"Without webhooks, {found.runs} runs in flight at one adapter keep {100 * found.adapter_cpu:.0f} % of a core "
        f"busy there and {100 * found.postgres_cpu:.0f} % in PostgreSQL, with {found.requests_per_s:.1f} requests/s to "
        f"the provider and at most {found.resident_mb:.0f} MB resident. After all had ended at the provider, "
        f"{found.ended} had succeeded within {found.ended_s:.0f} s.\n"
    )
    return [said]


def _sink(results: Results) -> list[str]:
    if (found := results.sink) is None:
        return []
    cpu = ", ".join(f"{part} {us:.0f}" for part, us in found.cpu_us.items())
    line = f"One log sink stored {found.per_s:.0f} events/s of {found.events}; CPU time in us per event: {cpu}.\n"
    return ["## Log sink alone\n", line]


def _asked(read: Read) -> str:
    return f"{read.what} ({read.refused} answers 503)" if read.refused else read.what


def _at_scale(results: Results) -> list[str]:
    if (found := results.at_scale) is None:
        return []
    rows = [
        (_asked(each), *(f"{p50} / {p99}" for p50, p99 in (each.few, each.many)), f"{each.many[1] / each.few[1]:.2f}")
        for each in found.reads
    ]
    few, many = (f"{n:,} attempts, p50 / p99 ms" for n in found.attempts)
    expired = ", ".join(
        f"{n:,} of {what} in {s:.1f} s, {longest:.2f} s for the longest batch"
        for what, (n, s, longest) in found.retention.items()
    )
    return [
        "## Reading with many attempts stored\n",
        f"Two gateways are asked in turns, one request at a time. The larger database has {found.gigabytes:.1f} GB.\n",
        table(("request", few, many, "p99 to p99"), rows),
        f"What has expired in the larger one was deleted: {expired}.\n",
    ]


def _pauses(results: Results) -> list[str]:
    if not results.pauses:
        return []
    rows = [
        (one.what, f"{one.value:.2f} {one.unit}", f"{one.bound:g} {one.unit}", "yes" if one.held else "no")
        for one in results.pauses
    ]
    return [
        "## Replicas that are killed or restarted\n",
        "Two replicas of each consumer, three brokers. A pause is the longest time that a record waited.\n",
        table(("what", "measured", "bound", "held"), rows),
    ]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and the range in parentheses if there are several values."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, with an empty line after it."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
