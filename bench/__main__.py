"""`make bench`: measures a whole Segue, and its peers, against cheap stand-ins for providers."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from bench.documents.capacity import capacity
from bench.documents.chart import chart
from bench.documents.report import report
from bench.rounds import FULL, SHORT, measure

from segue_cli.local.process import ChildFailed
from segue_cli.stack.components import StackFailed

FOLDER: Final = Path(__file__).parent
CAPACITY: Final = FOLDER.parent / "docs" / "capacity.md"


async def main(kafka: str, *, short: bool) -> None:
    """Measure, with a line of progress for each step; then write the results, or print those of a short run."""
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}", file=sys.stderr, flush=True)

    results = await measure(kafka, SHORT if short else FULL, tell)
    if short:
        print(report(results))
        return
    (FOLDER / "RESULTS.md").write_text(report(results))
    (FOLDER / "results.svg").write_text(chart(results))
    CAPACITY.write_text(capacity(results))
    tell("wrote bench/RESULTS.md, bench/results.svg and docs/capacity.md")


def options() -> argparse.Namespace:
    """The command line. Ends the process with one line if something is missing."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--kafka", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--short", action="store_true", help="one round of the ratios; prints them, and writes nothing")
    given = parser.parse_args()
    for tool in ("java", "mvn") if given.kafka == "apache" else ():
        if shutil.which(tool) is None:
            parser.exit(1, f"make bench needs Java and Maven: there is no {tool} on the PATH\n")
    return given


if __name__ == "__main__":
    arguments = options()
    try:
        asyncio.run(main(arguments.kafka, short=arguments.short))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ChildFailed, StackFailed) as error:
        sys.exit(f"make bench: {error}")
