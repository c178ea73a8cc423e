"""Prints which alerts each fault raises: faults on a real cluster, one after the other, beside a real Prometheus.

The rules are those of deploy/prometheus, with every duration divided by one factor. Exit code 1: an alert did not fire,
did not end, or fired without reason. Outcomes are kept, so that the faults can be tried in several runs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.alerts.bench import CALM_WITHIN_S, Bench, bench_on, say
from chaos.alerts.case import Case
from chaos.alerts.cases import CASES, case_named
from chaos.alerts.table import Outcome, faults, markdown, read, write
from chaos.alerts.watch import Watch
from segue_cli.stack.signals import run_until_told

AFTERMATH_S = 8
"""Seconds for which a fault goes on after its last alert, for alerts that nobody expects."""


async def outcome_of(bench: Bench, case: Case) -> Outcome:
    """Try one fault, and wait until its alerts have ended."""
    watch, error = Watch(bench, case.of), None
    accepted = bench.accepted
    async with watch.running():
        try:
            async with case.fault(bench):
                watch.began = time.monotonic()
                await watch.all_of(case.expected, case.within_s)
                await asyncio.sleep(AFTERMATH_S)
        except Exception as caught:  # noqa: BLE001 - it is the outcome of this case; the next one is tried
            error = f"{type(caught).__name__}: {caught}"
        over = time.monotonic()
        await bench.faults()
        await bench.fleet.restore()
        cleared = await watch.calm(case.clear_s)
    if bench.accepted == accepted:
        error = error or "no job was accepted"
    fired = {name: max(0.0, at - watch.began) for name, at in watch.seen.items() if at <= over}
    after = sorted(watch.seen.keys() - fired.keys())
    return Outcome(case.name, fired, after, cleared, time.monotonic() - over, error)


async def run(cases: Sequence[Case], kept: Path) -> int:
    """Try all of them; returns the exit code."""
    outcomes = read(kept)
    with tempfile.TemporaryDirectory(prefix="segue-alerts-") as name:
        folder = Path(name)
        async with bench_on(folder) as bench:
            before = Watch(bench)
            async with before.running():
                calm = await before.calm(CALM_WITHIN_S)
            say(f"no fault: {'no alert' if calm and not before.seen else 'ALERTS'} with {bench.accepted} jobs")
            wrong = 0 if calm and not before.seen else 1
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
    cases = CASES if options.faults == "all" else tuple(map(case_named, options.faults.split(",")))
    if options.table:
        print(markdown(CASES, read(options.kept)))
        return 0
    return run_until_told(run(cases, options.kept.resolve()))


if __name__ == "__main__":
    sys.exit(main())
