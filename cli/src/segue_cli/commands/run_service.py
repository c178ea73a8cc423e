"""`segue run`: one service in this process, as in a pod."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from chassis.settings.env_file import BadEnvironment
from chassis.settings.service import read_into_environment
from contracts.topics import SERVICES
from segue_cli.stack.components import module_of


def run(service: str, *, port: int | None, env_file: Path | None) -> None:
    """Run a service until it is stopped, and exit with its exit code.

    Settings come from `env_file`, then from the environment, then from `.env`. Raises BadEnvironment if `env_file`
    cannot be read.
    """
    if service not in SERVICES:
        sys.exit(f"there is no service {service!r}: one of {', '.join(SERVICES)}")
    if env_file is not None:
        if not env_file.exists():
            raise BadEnvironment(
                f"{env_file} is not there: `segue up` writes it when it starts, and removes it when it stops"
            )
        read_into_environment(env_file, override=True)
    if port is not None:
        os.environ["SEGUE_PORT"] = str(port)
    import_module(f"{module_of(service)}.__main__").main()
