"""`make bench`: measures a whole Segue against cheap stand-ins for its providers."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys

from bench.job_cost import job_cost
from bench.measures import latencies, throughput
from bench.system import system


async def main(kafka: str, jobs: int) -> None:
    """Measure, and print each figure as it is known."""
    async with system(kafka) as at:
        for work in (latencies(at, 60), job_cost(at, 10), throughput(at, jobs, at_once=20)):
            print(json.dumps(dataclasses.asdict(await work), indent=1), flush=True)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--kafka", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--jobs", type=int, default=400, help="failover jobs of the throughput measure (400)")
    return parser.parse_args()


if __name__ == "__main__":
    given = options()
    asyncio.run(main(given.kafka, given.jobs))
    sys.exit(0)
