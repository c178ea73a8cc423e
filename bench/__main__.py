"""`make bench`: measures a whole Segue against cheap stand-ins for its providers."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys

from bench.measures import cost, durable_answers, latencies, throughput
from bench.system import system


async def main(kafka: str, only: set[str], jobs: int) -> None:
    """Measure, and print each figure as it is known."""
    async with system(kafka) as at:
        for name, work in {
            "latency": lambda: latencies(at, 60),
            "alone": lambda: cost(at, 10, at_once=1),
            "loaded": lambda: cost(at, 100, at_once=20),
            "throughput": lambda: throughput(at, jobs, at_once=20),
            "answers": lambda: durable_answers(at, 8, 32, keyed=False),
            "answers with a key": lambda: durable_answers(at, 8, 32, keyed=True),
        }.items():
            if only and name not in only:
                continue
            found = await work()
            shown = dataclasses.asdict(found) if dataclasses.is_dataclass(found) else found
            print(json.dumps({name: shown}, indent=1), flush=True)  # noqa: T201


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--kafka", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--only", default="", help="measures, separated by commas")
    parser.add_argument("--jobs", type=int, default=400, help="failover jobs of the throughput measure (400)")
    return parser.parse_args()


if __name__ == "__main__":
    given = options()
    asyncio.run(main(given.kafka, set(filter(None, given.only.split(","))), given.jobs))
    sys.exit(0)
