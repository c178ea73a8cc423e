"""A drill for the person on call: something breaks, nobody says what, and alerts lead to it.

It runs the fleet of the table of alerts, induces one fault that is drawn by lot, and waits for an answer on standard
input. Then it says what the fault was, and which alerts it raised after how many seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from chaos.alerts.__main__ import CALM_WITHIN_S, CASES, needed, say
from chaos.alerts.bench import SETTINGS, Bench, bench_on
from chaos.alerts.case import Case
from chaos.alerts.rules import FACTOR
from chaos.cluster.fleet import Fleet, fleet_on
from chassis.postgres.polled_gauges import EVERY_S as GAUGES_EVERY_S
from segue_cli.stack.signals import run_until_told

QUIET_S: Final = (5.0, 30.0)
"""Bounds of the seconds before the fault."""


def addresses(fleet: Fleet, bench: Bench) -> list[str]:
    """What the person on call is given, one line each."""
    replicas = [f"  {one.name}: {one.address}/readyz" for one in fleet.members]
    return [
        f"alerts, targets and graphs: {bench.prometheus.base_url.join('/alerts')}",
        f"the gateway, also for `segue`: SEGUE_API={fleet.api.base_url}",
        f"the database: {fleet.env['DATABASE_URL']}",
        f"Kafka: {fleet.env['KAFKA_BOOTSTRAP_SERVERS']}",
        f"logs, a file for each replica: {fleet.folder / 'logs'}",
        f"settings, a file for each replica: {fleet.folder}/*.env",
        "replicas:",
        *replicas,
        f"runbooks: docs/runbooks.md. Every duration of the rules is divided by {FACTOR}.",
    ]


async def drill(bench: Bench, case: Case) -> None:
    """Induce one fault, wait for the answer, and say what it was."""
    await asyncio.sleep(random.uniform(*QUIET_S))
    fired: dict[str, float] = {}
    async with case.fault(bench):
        began = time.monotonic()
        watching = asyncio.create_task(bench.watch(began, fired, float("inf")))
        try:
            answer = await _line()
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        took_s = time.monotonic() - began
    say(f"your answer after {took_s:.0f} s: {answer.strip() or '(none)'}")
    say(f"the fault: {case.says}")
    alerts = ", ".join(f"{name} after {at_s:.0f} s" for name, at_s in fired.items())
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
        folder = Path(name)
        say("starting three brokers, PostgreSQL, both providers, and all services")
        async with fleet_on(folder / "fleet", SETTINGS) as fleet, bench_on(fleet, folder, say) as bench:
            await asyncio.sleep(GAUGES_EVERY_S)
            for line in addresses(fleet, bench):
                print(line, flush=True)
            for n, case in enumerate(cases, 1):
                await bench.quiet(CALM_WITHIN_S)
                say(f"drill {n} of {len(cases)}: something breaks within half a minute; write the cause, and Enter")
                await drill(bench, case)
                await bench.faults()
                await fleet.restore()
    return 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m chaos.alerts.drill", description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="the number of drills, one after the other (1)")
    parser.add_argument("--fault", help="the name of a fault, for somebody else to find")
    options = parser.parse_args()
    known = {case.name: case for case in CASES}
    if options.fault is not None and options.fault not in known:
        sys.exit(f"there is no fault {options.fault}: one of {', '.join(known)}")
    needed()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It logs a lot about brokers that are down.
    lot = secrets.SystemRandom().sample(list(known), min(options.times, len(known)))
    return run_until_told(run([known[name] for name in ([options.fault] if options.fault else lot)]))


if __name__ == "__main__":
    sys.exit(main())
