"""Files and folders that only their owner can read, whatever the umask is, and old ones made so."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

UMASK: Final = 0o077
FILE: Final = 0o600
FOLDER: Final = 0o700
PASSAGE: Final = 0o711
"""A folder that others pass through and cannot list, on the way to what another user owns."""


def keep_private() -> None:
    """Have all that this process and its children make from now on be readable by its owner alone."""
    os.umask(UMASK)


def private_opener(path: str, flags: int) -> int:
    """For `open`: a new file is its owner's alone, and an old one becomes so."""
    descriptor = os.open(path, flags, FILE)
    os.fchmod(descriptor, FILE)
    return descriptor


def private_folder(path: Path, mode: int = FOLDER) -> None:
    """Have a folder there, with this mode; those above it that are not there get the same."""
    for above in reversed(path.absolute().parents):
        if not above.exists():
            above.mkdir()
            above.chmod(mode)
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def close_folder(folder: Path) -> None:
    """Close a folder, and all that is in it, to everybody but its owner; what is another user's stays as it is.

    Once the folder itself is closed nobody reaches what is in it, so that the rest is looked at only this once.
    """
    if not folder.is_dir() or not folder.stat().st_mode & UMASK:
        return
    close_file(folder)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            close_file(Path(parent) / name)


def close_file(path: Path) -> None:
    """Close one file or folder to everybody but its owner, where it is ours."""
    with suppress(FileNotFoundError, PermissionError):
        mode = path.lstat().st_mode
        if mode & UMASK and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~UMASK)
