"""Runs the stand-ins as a process: prints their addresses as one JSON line on stdout; SIGTERM or SIGINT ends it."""

import argparse
import asyncio
import json
import logging
import signal
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sandbox.app import Listening, sandbox
from sandbox.runs.faults import Rule
from sandbox.settings import Settings


def main() -> None:
    """Parse the command line and run."""
    given = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    listening = Listening(given.fal_port, given.fal_run_port, given.replicate_port, given.control_port, given.host)
    asyncio.run(_serve(given.dir, listening, Settings(queue_s=given.queue_s, run_s=given.run_s), given.faults))


async def _serve(folder: Path, listening: Listening, settings: Settings, rules: list[Rule]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with sandbox(folder.resolve(), listening, settings, rules) as addresses:
        print(json.dumps(addresses.as_json()), flush=True)  # noqa: T201 - the parent process waits for this line
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="fal.ai and Replicate for a laptop.")
    parser.add_argument("--dir", type=Path, required=True, help="where ca.pem and bills.jsonl go")
    for name in ("fal", "fal-run", "replicate", "control"):
        parser.add_argument(f"--{name}-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", help="the name by which other machines reach this one; default: none of them can")
    parser.add_argument("--faults", type=_rules, default=[], help="the rules in force at the start, a JSON array")
    defaults = Settings()
    parser.add_argument("--queue-s", type=float, default=defaults.queue_s, help="seconds a job waits in the queue")
    parser.add_argument("--run-s", type=float, default=defaults.run_s, help="seconds a job runs")
    return parser


def _rules(text: str) -> list[Rule]:
    try:
        return TypeAdapter(list[Rule]).validate_json(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
