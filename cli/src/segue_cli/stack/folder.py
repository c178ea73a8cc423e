"""The folder `.segue`, where `segue up` keeps its data; only one `up` at a time uses it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from chassis.runtime.private_files import FOLDER as PRIVATE
from chassis.runtime.private_files import PASSAGE, close_file, close_folder, private_folder, private_opener
from contracts.text import escaped_line

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


class CannotUse(Exception):
    """The folder cannot be written, or belongs to another user; the message is one line with the remedy."""


@contextmanager
def held(folder: Path) -> Iterator[State]:
    """Lock the folder for the length of the block, closed to other users. Raises AlreadyUp and CannotUse."""
    try:
        state, lock = _locked(folder)
    except OSError as error:
        raise CannotUse(_unusable(folder, error)) from error
    with lock:
        yield state


def _locked(folder: Path) -> tuple[State, TextIO]:
    """The folder, closed to other users, and the open file that holds its lock."""
    private_folder(folder, passage())
    state = State(folder.resolve())
    for each in folder.iterdir():
        if each.is_file():
            close_file(each)
        elif each.name != DATABASE:  # If we are root it belongs to another user, and PostgreSQL restricts it.
            close_folder(each)
    private_folder(state.logs)
    with ExitStack() as opened:
        # Never deleted: a process that opened the deleted file would hold a lock that no other process sees.
        lock = opened.enter_context(open(folder / "up.lock", "a+", opener=private_opener))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise AlreadyUp(f"segue up is already running in this folder, as process {lock.read().strip()}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        opened.pop_all()
    return state, lock


def _unusable(folder: Path, error: OSError) -> str:
    try:
        above = str(folder.absolute().parent)
    except FileNotFoundError:
        above = "a folder that has been deleted"
    why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror or str(error)
    if error.filename is not None and (name := Path(os.fsdecode(error.filename)).name) != folder.name:
        why = f"{name}: {why}"
    what = escaped_line(f"{folder.name} in {above} cannot be used ({why})")
    return f"{what}; nothing was started: start it in a folder of your own"
