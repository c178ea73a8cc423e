"""Other users, for tests that run as root: permissions do not apply to root, and some servers refuse it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def let_others_enter(folder: Path) -> None:
    """Let other users enter a temporary folder of pytest's: it, and those above it, are its user's alone."""
    for each in (folder, *folder.parents[:3]):
        found = each.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & 0o001:
            each.chmod(found.st_mode | 0o011)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Run the block as another user if this process is root, for whom file permissions do not apply."""
    if os.geteuid() != 0:
        yield
        return
    let_others_enter(folder)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
