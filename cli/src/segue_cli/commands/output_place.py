"""The place that files are to be written to, checked before a job is paid for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer


def require_file(to: Path, option: str) -> None:
    """Check that a file can be written to `to`, which may exist. Raises typer.BadParameter, naming the option."""
    if to.is_dir():
        raise _refused(f"{to} is a folder: name a file in it", option)
    if to.exists() and not to.is_file():
        raise _refused(f"{to} is no regular file", option)
    try:
        unfinished(to).exists()
    except OSError as error:
        raise _refused(f"{to} cannot be written: {error.strerror}", option) from None
    require_folder(to.parent, option)


def require_folder(folder: Path, option: str) -> None:
    """Check that files can be written to `folder`, or that it can be made. Raises typer.BadParameter."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise _refused(f"{there} is no folder", option)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".segue-"):
            pass
    except OSError as error:
        raise _refused(f"{there} cannot be written to: {error.strerror}", option) from None


def unfinished(to: Path) -> Path:
    """The file beside `to` that has what is not written completely."""
    return to.with_name(f".{to.name}.part")


def _refused(why: str, option: str) -> typer.BadParameter:
    return typer.BadParameter(f"{why}; no job was requested", param_hint=option)
