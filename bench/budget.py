"""The budget of one job: reads docs/job-budget.md. `python -m bench.budget` measures, and prints the table's rows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.job_cost import JobCost, job_cost
from bench.system import system

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "job-budget.md"
JOBS: Final = 10
RUN_S: Final = 0.2
"""How long a run takes: long enough that the answer to its submit is stored before its webhook comes."""
_ROW: Final = re.compile(r"^\| (?P<what>[^|]+) \| (?P<most>\d+) \|$", re.MULTILINE)


def budget(document: str) -> dict[str, int]:
    """The rows of the table: what is counted, and its upper bound."""
    return {row["what"]: int(row["most"]) for row in _ROW.finditer(document)}


def excess(cost: Mapping[str, int], most: Mapping[str, int]) -> list[str]:
    """What exceeds the budget, one line each. What the budget does not name is not allowed at all."""
    return [f"{what}: {n}, budget {most.get(what, 0)}" for what, n in cost.items() if n > most.get(what, 0)]


async def measured() -> JobCost:
    """The cost of a job on the embedded cluster."""
    async with system("embedded", RUN_S) as at:
        return await job_cost(at, JOBS)


async def main() -> None:
    """Print the rows, and the statements behind them."""
    cost = await measured()
    print("\n".join(f"| {what} | {n} |" for what, n in cost.rows().items()))
    print("\n".join(cost.transactions))


if __name__ == "__main__":
    asyncio.run(main())
