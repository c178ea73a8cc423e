"""The folder `.segue`, where `segue up` keeps its data; only one `up` at a time uses it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chassis.runtime.private_files import FOLDER as PRIVATE
from chassis.runtime.private_files import PASSAGE, close_file, close_folder, private_folder, private_opener

FOLDER: Final = Path(".segue")
DATABASE: Final = "postgres"


@dataclass(frozen=True, slots=True)
class State:
    """The paths in the folder."""

    folder: Path

    @property
    def env_file(self) -> Path:
        """The settings of everything that `segue up` started; exists while it runs."""
        return self.folder / "up.env"

    @property
    def logs(self) -> Path:
        """The folder of the log files, one for each part."""
        return self.folder / "logs"

    @property
    def artifacts(self) -> Path:
        """The artifact store, unless another one is configured."""
        return self.folder / "artifacts"


def passage() -> int:
    """The mode of the folders above the database: as root, PostgreSQL runs as another user, who has to enter them."""
    return PASSAGE if os.geteuid() == 0 else PRIVATE


class AlreadyUp(Exception):
    """Another `segue up` uses the folder; the message names its process."""


@contextmanager
def held(folder: Path) -> Iterator[State]:
    """Lock the folder for the length of the block, closed to other users. Raises AlreadyUp."""
    private_folder(folder, passage())
    state = State(folder.resolve())
    for each in folder.iterdir():
        if each.is_file():
            close_file(each)
        elif each.name != DATABASE:  # If we are root it belongs to another user, and PostgreSQL restricts it.
            close_folder(each)
    private_folder(state.logs)
    # Never deleted: a process that opened the deleted file would hold a lock that no other process sees.
    with open(folder / "up.lock", "a+", opener=private_opener) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise AlreadyUp(f"segue up is already running in this folder, as process {lock.read().strip()}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield state
