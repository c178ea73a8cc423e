"""What one failover job costs stays within docs/job-budget.md."""

from __future__ import annotations

import pytest
from bench.budget import DOCUMENT, budget, excess, measured


@pytest.mark.e2e
@pytest.mark.timeout(600)
async def test_a_job_costs_no_more_than_its_budget() -> None:
    cost = await measured()
    # What is not counted any more would be within any budget.
    assert set(cost.rows()) == set(budget(DOCUMENT.read_text()))
    assert excess(cost.rows(), budget(DOCUMENT.read_text())) == [], "\n".join(cost.transactions)


def test_each_row_of_the_table_is_read() -> None:
    document = DOCUMENT.read_text()
    assert len(budget(document)) == sum(line.startswith("| ") for line in document.splitlines()) - 1


def test_what_exceeds_the_budget_is_named() -> None:
    most = {"commits: gateway": 2, "connections: fal": 1}
    assert excess({"commits: gateway": 2}, most) == []
    assert excess({"commits: gateway": 3, "records: new": 1}, most) == [
        "commits: gateway: 3, budget 2",
        "records: new: 1, budget 0",
    ]
