"""Tests Segue's guarantees on a real cluster: runs all services, injects faults from a seed, and checks the results.

Exit code 1 means a violation; the report and the console describe it, with the command that repeats it.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

from chaos.checks.checker import Violation
from chaos.cluster.fleet import fleet_on
from chaos.cluster.scale import FULL, SHORT
from chaos.report import Totals, report
from chaos.rows import database, events, providers, webhooks
from chaos.rows.base import Row
from chaos.rows.kafka import brokers, network, topics
from chaos.rows.machine import clocks, disks, floods
from chaos.rows.services import consumers, crashes, deploys, pauses, restarts, zombies
from chaos.run import Result, Run
from segue_cli.stack.signals import run_until_told


def rows() -> dict[int, Row]:
    """All rows of the fault matrix, by number."""
    found: dict[int, Row] = {}
    services = (crashes, restarts, zombies, consumers, deploys, pauses)
    for module in (*services, brokers, network, topics, database, disks, floods, clocks, providers, webhooks, events):
        found |= module.ROWS
    return dict(sorted(found.items()))


def select_rows(names: str, *, earlier_release: bool) -> list[Row]:
    """The rows in `names`: `all`, `none`, or numbers separated by commas. Exits if a number is unknown.

    Without an earlier release, `all` leaves out the rows that need one.
    """
    if names == "none":
        return []
    known = rows()
    if names == "all":
        return [row for row in known.values() if earlier_release or not row.earlier_release]
    numbers = [int(one) for one in names.split(",")]
    if unknown := [n for n in numbers if n not in known]:
        sys.exit(f"there is no row {unknown[0]}: one of {', '.join(map(str, known))}")
    return [known[n] for n in numbers]


def say(line: str) -> None:
    """Print one line with the time, and flush it."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def print_result(result: Result) -> None:
    """Print the result of one row or storm."""
    say(f"{result.name} ({result.title}): {'clean' if result.clean else 'NOT CLEAN'} after {result.took_s:.0f} s")
    for line in result.seen:
        say(f"  {line}")
    if result.clean:
        return
    say(f"  again: python -m chaos {result.replay}")
    for what in [*([result.error] if result.error else []), *map(str, result.violations[:20])]:
        say(f"  ! {what}")
    for injection in result.injections:
        say(f"  | {injection}")


async def run(options: argparse.Namespace, which: Sequence[Row], audit: Path) -> int:
    """Run the rows and storms of the command line; returns the exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="segue-chaos-") as name:
        folder = Path(name) / "fleet"
        say("starting three brokers, Postgres, both providers, and all services")
        scale = FULL if options.full else SHORT
        # Without root there are none, and the row that fills them says so.
        small_disks = os.geteuid() == 0 and any(row.small_disks for row in which)
        async with fleet_on(folder, {}, scale, small_disks=small_disks) as fleet:
            say(f"all are ready after {time.monotonic() - began:.0f} s")
            fleet.earlier_python = options.earlier
            done = Run(fleet, audit, say)
            for work in planned(done, which, options):
                started = time.monotonic()
                result = await work
                result.took_s = time.monotonic() - started
                print_result(result)
                write(done, options, began)
            overall = await done.check_all()
            write(done, options, began, overall)
            shutil.copy(fleet.bills_file, audit / "bills.jsonl")
            clean = all(one.clean for one in done.results) and not overall
            if not clean:
                shutil.copytree(folder / "logs", audit / "logs")
                fleet.brokers.keep_logs(audit / "logs")
    for violation in overall:
        say(f"! over the whole run: {violation}")
    say(f"{'clean' if clean else 'NOT CLEAN'}: {options.report}, and what it was made from in {audit}")
    return 0 if clean else 1


def planned(done: Run, which: Sequence[Row], options: argparse.Namespace) -> Iterator[Coroutine[Any, Any, Result]]:
    """The rows, then the storms, each announced when it begins."""
    for row in which:
        say(f"row {row.number}: {row.title}")
        yield done.row(row, options.seed)
    for n in range(options.rounds):
        say(f"storm {n + 1} of {options.rounds}: {options.jobs} jobs, {options.kills} kills")
        yield done.storm(options.seed + n, options.jobs, options.kills, options.rate)


def write(done: Run, options: argparse.Namespace, began: float, overall: Sequence[Violation] = ()) -> None:
    """Write the report of everything done so far, so that there is one if the run is interrupted."""
    took_s = time.monotonic() - began
    totals = Totals(options.seed, took_s, done.kills, done.faults, done.resolutions.total(), overall)
    options.report.write_text(report(done.results, done.evidence, totals))


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="storms (2)")
    parser.add_argument("--jobs", type=int, default=500, help="requests in each storm (500)")
    parser.add_argument("--kills", type=int, default=25, help="kills in each storm (25)")
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second (8)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000, help="of the first storm (the time)")
    parser.add_argument("--rows", default="all", help="of the fault matrix: all, none, or 1,2,3 (all)")
    parser.add_argument("--earlier", metavar="PYTHON", help="the interpreter of an earlier release's installation")
    parser.add_argument("--full", action="store_true", help="rows as long and as large as the matrix has them")
    parser.add_argument("--report", type=Path, default=Path("chaos-report.md"), help="where it goes (chaos-report.md)")
    options = parser.parse_args()
    which = select_rows(options.rows, earlier_release=options.earlier is not None)
    audit = options.report.resolve().parent / "chaos-audit"
    shutil.rmtree(audit, ignore_errors=True)
    audit.mkdir(parents=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It logs a lot about brokers that are down.
    say(f"seed {options.seed}")
    if options.rows == "all" and options.earlier is None:
        say("the rows that need an earlier release are left out: --earlier gives its interpreter")
    return run_until_told(run(options, which, audit))


if __name__ == "__main__":
    sys.exit(main())
