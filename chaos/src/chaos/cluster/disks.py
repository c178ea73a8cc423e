"""Disks of a few gigabytes in memory, which can be filled without harm to the machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

POSTGRES, BROKER = "postgres", "broker-1"
DISKS: Final = (POSTGRES, BROKER)
"""What has a disk of its own: PostgreSQL, and one of the brokers."""
SIZE: Final = "3g"
_FILLER: Final = "filler"
_CHUNK_BYTES: Final = 16 << 20


class NoSmallDisk(Exception):
    """This machine does not allow a disk to be mounted."""


async def small_disk(name: str, stack: AsyncExitStack) -> Path:
    """Mount one for as long as the stack is open. Raises NoSmallDisk."""
    # Not below the folder of the run, which PostgreSQL's user may not enter.
    at = Path(await asyncio.to_thread(mkdtemp, prefix=f"segue-chaos-{name}-"))
    stack.callback(at.rmdir)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "segue-chaos", str(at)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: ASYNC221 - it takes no time
    if done.returncode:
        raise NoSmallDisk(f"a disk that can be filled takes root: {done.stderr.strip()}")
    # Lazily, since a process may still end with a file open on it.
    stack.callback(subprocess.run, ["umount", "-l", str(at)], check=False)
    return at


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / _FILLER).open("ab", buffering=0) as file:
        for size in (_CHUNK_BYTES, 4096, 1):
            try:
                while True:
                    os.write(file.fileno(), bytes(size))
            except OSError:
                continue


def free_disks(disks: Iterable[Path]) -> None:
    """Free what `fill` took."""
    for disk in disks:
        (disk / _FILLER).unlink(missing_ok=True)
