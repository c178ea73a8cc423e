"""Files and folders that only their owner can access, whatever the umask is; existing ones are restricted."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import EROFS
from pathlib import Path
from typing import Final

UMASK: Final = 0o077
FILE: Final = 0o600
FOLDER: Final = 0o700
PASSAGE: Final = 0o711
"""A folder that other users can traverse but not list, above a folder that another user owns."""


def keep_private() -> None:
    """Set the umask, so that only the owner can access the new files of this process and its children."""
    os.umask(UMASK)


def private_opener(path: str, flags: int) -> int:
    """An opener for `open` that restricts the file, new or existing, to its owner."""
    descriptor = os.open(path, flags, FILE)
    os.fchmod(descriptor, FILE)
    return descriptor


def private_folder(path: Path, mode: int = FOLDER) -> None:
    """Create a folder, or change an existing one, to this mode; missing parents are created with the same mode."""
    for above in reversed(path.absolute().parents):
        if not above.exists():
            above.mkdir()
            above.chmod(mode)
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def close_folder(folder: Path) -> None:
    """Restrict a folder and its content to their owner; files of other users are not changed.

    If the folder itself is already restricted, its content is unreachable for others and is not checked.
    """
    if not folder.is_dir() or not folder.stat().st_mode & UMASK:
        return
    close_file(folder)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            close_file(Path(parent) / name)


def close_file(path: Path) -> None:
    """Restrict one file or folder to its owner, unless it belongs to another user or can only be read here."""
    with suppress(FileNotFoundError, PermissionError):
        mode = path.lstat().st_mode
        if mode & UMASK and not stat.S_ISLNK(mode):
            try:
                path.chmod(stat.S_IMODE(mode) & ~UMASK)
            except OSError as error:
                if error.errno != EROFS:  # Whoever can write to the file system sets its modes.
                    raise
