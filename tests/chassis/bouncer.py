"""A real PgBouncer in front of a test's PostgreSQL, where the program is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.users import let_others_enter

from segue_cli.local.ports import free_port
from segue_cli.local.process import child

PROGRAM: Final = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_NOBODY: Final = 65534


@asynccontextmanager
async def pgbouncer(url: str, folder: Path, *, mode: str = "transaction", size: int = 2) -> AsyncIterator[str]:
    """Run it during the block; yields the URL of the database behind it. `size` sessions serve all clients."""
    assert PROGRAM is not None
    server, port = urlsplit(url), free_port()
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={server.hostname} port={server.port} user={server.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = {mode}\n"
        f"default_pool_size = {size}\nunix_socket_dir =\nserver_round_robin = 1\n"
    )
    config.chmod(0o644)
    let_others_enter(folder)
    user = _NOBODY if os.geteuid() == 0 else None  # It refuses to run as root.

    def is_up(line: str) -> dict[str, str] | None:
        return {} if "process up" in line else None

    async with child([PROGRAM, str(config)], name="pgbouncer", user=user, ready=is_up):
        yield f"{server.scheme}://{server.username}@127.0.0.1:{port}{server.path}"
