"""Restarts the PostgreSQL of a kept folder: `python -m segue_cli.local.keep_postgres --dir D --port N`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from segue_cli.local.postgres import postgres
from segue_cli.local.postgres_programs import CannotRunHere
from segue_cli.local.process import ChildFailed


def main() -> None:
    """Run it until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m segue_cli.local.keep_postgres", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the folder that has its data and password")
    parser.add_argument("--port", type=int, required=True, help="where to listen on 127.0.0.1")
    options = parser.parse_args()
    try:
        asyncio.run(_keep(options.dir, options.port))
    except (ChildFailed, CannotRunHere) as error:
        sys.exit(str(error))


async def _keep(folder: Path, port: int) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with postgres(folder, port, durable=True, on_line=lambda line: print(line, flush=True)):
        await told.wait()


if __name__ == "__main__":
    main()
