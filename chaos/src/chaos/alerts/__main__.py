"""Prints which alerts each fault raises: faults on a real cluster, one after the other, beside a real Prometheus.

The rules are those of deploy/prometheus, with every duration divided by one factor. Exit code 1: an alert did not fire,
did not end, or fired without reason. Outcomes are kept, so that the faults can be tried in several runs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.alerts import of_providers, of_services
from chaos.alerts.bench import SETTINGS, Bench, bench_on
from chaos.alerts.case import Case
from chaos.alerts.rules import FACTOR
from chaos.alerts.table import Outcome, faults, markdown, read, write
from chaos.cluster.fleet import fleet_on
from chaos.cluster.prometheus import PROGRAM
from chassis.postgres.polled_gauges import EVERY_S as GAUGES_EVERY_S
from segue_cli.stack.signals import run_until_told

CASES = (*of_services.CASES, *of_providers.CASES)
CALM_WITHIN_S = 90
AFTERMATH_S = 8
"""Seconds for which a fault goes on after its last alert, for alerts that nobody expects."""


def say(line: str) -> None:
    """Print one line with the time, and flush it."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def needed() -> None:
    """Exit with one line if what this needs is not installed."""
    if shutil.which(PROGRAM) is None:
        sys.exit("alerts need Prometheus on the PATH")


async def outcome_of(bench: Bench, case: Case) -> Outcome:
    """Try one fault, and wait until its alerts have ended."""
    fired: dict[str, float] = {}
    error = None
    try:
        async with case.fault(bench):
            began = time.monotonic()
            await bench.watch(began, fired, case.within_s, case.expected)
            await bench.watch(began, fired, AFTERMATH_S)
        over = time.monotonic()
        await bench.faults()
        await bench.fleet.restore()
    except Exception as caught:  # noqa: BLE001 - it is the outcome of this case; the next one is tried
        error, over = f"{type(caught).__name__}: {caught}", time.monotonic()
        await bench.faults()
        await bench.fleet.restore()
    cleared, late = await bench.quiet(case.clear_s)
    after = sorted(late.keys() - fired.keys())
    return Outcome(case.name, fired, after, cleared, time.monotonic() - over, error)


async def run(cases: Sequence[Case], kept: Path) -> int:
    """Try all of them; returns the exit code."""
    outcomes = read(kept)
    with tempfile.TemporaryDirectory(prefix="segue-alerts-") as name:
        folder = Path(name)
        say("starting three brokers, PostgreSQL, both providers, and all services")
        async with fleet_on(folder / "fleet", SETTINGS) as fleet, bench_on(fleet, folder, say) as bench:
            say(f"all are ready; every duration of the rules is divided by {FACTOR}")
            await asyncio.sleep(GAUGES_EVERY_S)  # Then every gauge that is read from PostgreSQL has a value.
            calm, _ = await bench.quiet(CALM_WITHIN_S)
            say(f"no fault: {'no alert' if calm else 'ALERTS'} with {bench.accepted} jobs")
            wrong = 0 if calm else 1
            for case in cases:
                say(f"{case.name}: {case.says}")
                outcomes[case.name] = outcome = await outcome_of(bench, case)
                write(kept, outcomes)
                found = faults(case, outcome)
                wrong += len(found)
                also = f"; afterwards {', '.join(outcome.after)}" if outcome.after else ""
                say(f"  {'; '.join(found) or 'as expected'}{also}; calm after {outcome.clear_s:.0f} s")
            say(f"{bench.accepted} jobs in all")
            if wrong:
                shutil.copytree(folder / "fleet" / "logs", kept.parent / "alerts-logs", dirs_exist_ok=True)
    print(markdown(CASES, outcomes))
    return 1 if wrong else 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m chaos.alerts", description=__doc__)
    parser.add_argument("--faults", default="all", help="all, or names with commas between them")
    parser.add_argument("--kept", type=Path, default=Path("build/alerts.json"), help="the outcomes (build/alerts.json)")
    parser.add_argument("--table", action="store_true", help="print the table of the outcomes, and try nothing")
    options = parser.parse_args()
    known = {case.name: case for case in CASES}
    names = list(known) if options.faults == "all" else options.faults.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no fault {unknown[0]}: one of {', '.join(known)}")
    if options.table:
        print(markdown(CASES, read(options.kept)))
        return 0
    needed()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It logs a lot about brokers that are down.
    return run_until_told(run([known[name] for name in names], options.kept.resolve()))


if __name__ == "__main__":
    sys.exit(main())
