"""A drill for the person on call: something breaks, nobody says what, and alerts lead to it.

It runs the fleet of the table of alerts, induces one fault that is drawn by lot, and waits for an answer on standard
input. Then it says what the fault was, and which alerts it raised after how many seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.alerts.bench import CALM_WITHIN_S, Bench, bench_on, say
from chaos.alerts.case import Case
from chaos.alerts.cases import CASES, case_named
from chaos.alerts.rules import FACTOR
from chaos.alerts.watch import Watch
from segue_cli.stack.signals import run_until_told

QUIET_S: Final = (5.0, 30.0)
"""Bounds of the seconds before the fault: nobody on call knows when it comes."""


def addresses(bench: Bench) -> list[str]:
    """What the person on call is given, one line each."""
    fleet = bench.fleet
    replicas = [f"  {one.name}: {one.address}/readyz" for one in fleet.members]
    return [
        f"alerts, targets and graphs: {bench.prometheus.base_url.join('/alerts')}",
        f"the gateway, also for `segue`: SEGUE_API={fleet.api.base_url}",
        f"the database: {fleet.env['DATABASE_URL']}",
        f"Kafka: {fleet.env['KAFKA_BOOTSTRAP_SERVERS']}",
        f"logs, a file for each replica: {fleet.folder / 'logs'}",
        f"settings, a file for each replica: {fleet.folder}/*.env",
        f"the dashboards, as pictures below build/dashboards: {_pictures(bench)}",
        "replicas:",
        *replicas,
        f"runbooks: docs/runbooks.md. Every duration of the rules is divided by {FACTOR}.",
    ]


def _pictures(bench: Bench) -> str:
    at = f"--prometheus {bench.prometheus.base_url} --database '{bench.fleet.env['DATABASE_URL']}'"
    return f".venv/bin/python deploy/grafana/picture.py {at}"


async def drill(bench: Bench, case: Case) -> None:
    """Induce one fault, wait for the answer, and say what it was."""
    await asyncio.sleep(random.uniform(*QUIET_S))
    watch = Watch(bench)
    async with watch.running(), case.fault(bench):
        watch.began = time.monotonic()
        answer = await _line()
        took_s = time.monotonic() - watch.began
    say(f"your answer after {took_s:.0f} s: {answer.strip() or '(none)'}")
    say(f"the fault: {case.says}")
    alerts = ", ".join(f"{name} after {max(0.0, at - watch.began):.0f} s" for name, at in watch.seen.items())
    say(f"alerts: {alerts or 'none'}; those that it has to raise: {', '.join(sorted(case.expected))}")


async def _line() -> str:
    # A thread that reads could not be cancelled by an interrupt.
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline()


async def run(cases: Sequence[Case]) -> int:
    """One drill for each case, on one fleet; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="segue-drill-") as name:
        async with bench_on(Path(name)) as bench:
            for line in addresses(bench):
                print(line, flush=True)
            for n, case in enumerate(cases, 1):
                watch = Watch(bench)
                async with watch.running():
                    await watch.calm(CALM_WITHIN_S)
                say(f"drill {n} of {len(cases)}: something breaks within half a minute; write the cause, and Enter")
                await drill(bench, case)
                await bench.faults()
                await bench.fleet.restore()
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m chaos.alerts.drill", description=__doc__)
    parser.add_argument(
        "--times", type=int, default=1, choices=range(1, len(CASES) + 1), metavar="TIMES", help="how many drills (1)"
    )
    parser.add_argument("--fault", type=case_named, help="the name of a fault, for somebody else to find")
    options = parser.parse_args()
    if not (sys.stdin.isatty() or stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)):
        sys.exit("the answer is read from standard input, which has to be a terminal or a pipe")
    drawn = secrets.SystemRandom().sample(CASES, options.times)
    return run_until_told(run([options.fault] if options.fault else drawn))


if __name__ == "__main__":
    sys.exit(main())
