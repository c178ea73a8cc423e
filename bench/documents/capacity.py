"""docs/capacity.md: what a number of jobs per second needs, computed from the figures of a run."""

from __future__ import annotations

import math
import statistics
from typing import Final

from bench.documents.report import table
from bench.rounds import SEGUE, Results

import log_sink.app
from chassis.postgres.pool import POOL_SIZE
from contracts.topics import PARTITIONS

RATES: Final = (1, 10, 100, 1000)
BUSY: Final = 0.6
"""The share of a core that a process may use on average, so that peaks and restarts fit in."""
_OTHERS: Final = ("gateway", "orchestrator", "fal-adapter", "replicate-adapter")
CONNECTIONS: Final = {**dict.fromkeys(_OTHERS, POOL_SIZE), "log-sink": log_sink.app.POOL_SIZE}
"""The most connections to PostgreSQL that a replica of each service opens: its locks too are of its pool."""

HEAD: Final = """# Capacity

How many replicas, partitions, connections, and how much of PostgreSQL a number of jobs per second needs. `make bench`
computes this page from its figures; they hold for jobs that the first provider refuses and the second one makes, with
small files, and a process may use {busy:.0%} of a core on average. A job that its first provider makes costs less.

The figures come from the run of {date}: {processor}, {kafka}.
"""
NOTES: Final = """
- A service is one process on one core, so its replicas follow from its CPU time. With two of each,
  work goes on when one of them ends.
- A topic needs at least as many partitions as a service has replicas; beyond that number a further replica has nothing
  to do. The number is fixed when the topics are made: {partitions} unless that is changed.
- Connections are the most that the replicas open together: {connections}.
- PostgreSQL's cores are those its processes used here. Commits are those of jobs that run alone; under load one commit
  serves several jobs. Each waits until the disk has written it. GB a day is the growth of the database before retention
  deletes anything.
- What jobs cost while they are in flight is in bench/RESULTS.md.
"""


def capacity(results: Results) -> str:
    """The document."""
    found = results.throughput[SEGUE]
    cpu = {part: statistics.median(each.cpu_ms[part] for each in found) for part in found[0].cpu_ms}
    commits = sum(results.cost.commits.values()) if results.cost else 0
    rows = [_row(rate, cpu, commits, results.bytes_per_job) for rate in RATES]
    head = ("failover jobs/s", *CONNECTIONS, "partitions", "connections", "PostgreSQL cores", "commits/s", "GB a day")
    where = {name: results.conditions[name] for name in ("date", "processor")}
    return (
        HEAD.format(busy=BUSY, kafka=results.conditions["Kafka"], **where)
        + "\n"
        + table(head, rows)
        + NOTES.format(
            partitions=PARTITIONS,
            connections=each_service(),
        )
    )


def each_service() -> str:
    """The connections of each service, with those that open the same number together."""
    most = max(CONNECTIONS.values())
    others = ", ".join(f"{n} for each {service}" for service, n in CONNECTIONS.items() if n < most)
    return f"{others}, {most} for each of the others"


def _row(rate: int, cpu: dict[str, float], commits: int, bytes_per_job: float) -> tuple[str, ...]:
    replicas = {service: max(2, math.ceil(rate * cpu[service] / 1000 / BUSY)) for service in CONNECTIONS}
    return (
        str(rate),
        *(str(n) for n in replicas.values()),
        str(max(PARTITIONS, *replicas.values())),
        str(sum(CONNECTIONS[service] * n for service, n in replicas.items())),
        f"{max(0.1, rate * cpu['postgres'] / 1000 / BUSY):.1f}",
        f"{rate * commits:,}",
        f"{rate * 86_400 * bytes_per_job / 1e9:,.0f}",
    )
