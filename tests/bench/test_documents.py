"""What a run writes: the results, their chart, and the page on capacity."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from bench.accepted import Answers
from bench.documents.capacity import CONNECTIONS, RATES, capacity, each_service
from bench.documents.chart import chart
from bench.documents.report import report
from bench.extended.held import Held
from bench.extended.logs_at_scale import AtScale, Read
from bench.extended.pauses import Bounded
from bench.extended.sink import SinkRate
from bench.job_cost import JobCost
from bench.measures import Latencies, Throughput
from bench.rounds import CELERY_STACK, KEYED, SEGUE, Results

DOCS = Path(__file__).parents[2] / "docs"
TIMES = "\N{MULTIPLICATION SIGN}"
CPU_MS = {"gateway": 4.0, "orchestrator": 3.0, "fal-adapter": 4.0, "replicate-adapter": 12.0, "log-sink": 3.0}


def made(jobs_per_s: float) -> Throughput:
    return Throughput(100, jobs_per_s, {**CPU_MS, "postgres": 6.0}, 4.0, 2.0)


@pytest.fixture
def results() -> Results:
    return Results(
        {"date": "2026-01-02 03:04 UTC", "processor": "2 cores", "Kafka": "Apache Kafka, one broker"},
        Latencies((27.0, 43.0), (26.0, 49.0), (53.0, 90.0)),
        JobCost({"gateway": 6}, {"gateway": 3, "orchestrator": 8}, {"segue.jobs": 4}, {"fal POST": 1}, {"fal": 1}, []),
        {SEGUE: [made(30), made(44), made(32)], CELERY_STACK: [made(3), made(4), made(4)]},
        {
            SEGUE: [Answers(400, 1.0, 0.4)] * 3,
            KEYED: [Answers(300, 1.2, 0.4)] * 3,
            CELERY_STACK: [Answers(200, 2.0, 0.3)] * 3,
        },
        {"gateway": 0.01},
        40_000,
        [Held(50, 35.0, 0.01, 110.0)],
        ["litellm is skipped: no network"],
    )


def test_the_report_compares_pairs_of_one_round(results: Results) -> None:
    text = report(results)
    assert "| Segue | 100 | 32.0 (30.0 to 44.0) | 32.0 (32.0 to 32.0) |" in text
    assert "10.0 (8.0 to 11.0) times as many" in text
    assert "With an Idempotency-Key, Segue accepts 1.5 (1.5 to 1.5) times as many." in text
    assert "litellm is skipped: no network" in text
    assert "| records: segue.jobs | 4 |" in text


def test_the_chart_is_xml_with_a_bar_for_each_figure(results: Results) -> None:
    bars = ET.fromstring(chart(results)).findall("{http://www.w3.org/2000/svg}rect")  # noqa: S314
    assert len(bars) == 2 + 3 + 3


def test_the_page_on_capacity_names_its_run_and_grows_with_the_rate(results: Results) -> None:
    text = capacity(results)
    assert "2026-01-02 03:04 UTC" in text
    assert "| 1 | 2 | 2 | 2 | 2 | 2 | 6 | 90 | 0.1 | 11 | 3 |" in text
    assert "| 1000 | 7 | 5 | 7 | 20 | 5 | 20 |" in text


def test_the_connections_that_documents_name_are_those_that_the_services_open() -> None:
    most, sink = max(CONNECTIONS.values()), CONNECTIONS["log-sink"]
    names = ("capacity.md", "operations/sizing.md", "operations/postgres.md")
    page, sizing, postgres = ((DOCS / name).read_text().replace(TIMES, "x") for name in names)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == len(RATES)
    for _, *cells in rows:
        replicas = zip(CONNECTIONS.values(), cells, strict=False)
        assert int(cells[len(CONNECTIONS) + 1]) == sum(each * int(n) for each, n in replicas)
    assert f"the most that the replicas open together: {each_service()}." in page
    assert f"A replica opens {most} at most; a log-sink {sink}." in sizing
    assert f"+ {sink} x (log-sinks + 1)" in sizing
    assert f"{most} x 12 + {sink} x 3 + 20 = {most * 12 + sink * 3 + 20}" in sizing
    assert f"holds up to {most}\nconnections (the log-sink {sink})" in postgres


def test_the_log_sink_alone_is_in_the_report(results: Results) -> None:
    assert "Log sink alone" not in report(results)
    results.sink = SinkRate(100_000, 12_345.6, {"log-sink": 41.2, "postgres": 30.0})
    assert "stored 12346 events/s of 100000" in report(results)
    assert "log-sink 41, postgres 30" in report(results)


def test_the_report_says_of_each_pause_whether_its_bound_is_held(results: Results) -> None:
    results.pauses = [
        Bounded("the other's partitions", 0.4, 1),
        Bounded("its partitions", 3.04, 3),
        Bounded("jobs that succeed", 99.5, 99, "%", at_least=True),
    ]
    text = report(results)
    assert "| the other's partitions | 0.40 s | 1 s | yes |" in text
    assert "| its partitions | 3.04 s | 3 s | no |" in text
    assert "| jobs that succeed | 99.50 % | 99 % | yes |" in text


def test_the_report_compares_reads_of_many_with_reads_of_few(results: Results) -> None:
    reads = [Read("GET /api/jobs/{id}/logs", (2.0, 4.0), (2.5, 5.0))]
    results.at_scale = AtScale((10_000, 10_000_000), reads, 240.0, 15.5, {"months_of_events": (2, 0.5, 0.3)})
    text = report(results)
    assert "10,000,000 attempts, p50 / p99 ms" in text
    assert "| GET /api/jobs/{id}/logs | 2.0 / 4.0 | 2.5 / 5.0 | 1.25 |" in text
    assert "2 of months_of_events in 0.5 s, 0.30 s for the longest batch" in text
