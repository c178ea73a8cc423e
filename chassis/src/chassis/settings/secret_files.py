"""Secrets in files: `NAME_FILE` names the file that holds the value of the setting `NAME`."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from chassis.settings.env_file import BadEnvironment, decoded
from chassis.settings.header_values import stripped
from chassis.settings.names import SUFFIX

MOST_BYTES: Final = 65_536
"""The size of the largest file that is read for a secret."""


def with_secrets(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """The environment with the values of the secrets that are in files, in the place of the names of these files.

    Raises BadEnvironment, with a problem for each file that cannot be used.
    """
    found, problems = dict(environ), []
    for name in sorted(secrets):
        if not (path := stripped(found.pop(name + SUFFIX, ""))):
            continue
        if stripped(environ.get(name, "")):
            problems.append(f"{name} and {name}{SUFFIX} are both set: remove one of them")
            continue
        try:
            found[name] = _read(Path(path))
        except ValueError as error:
            problems.append(f"{name}{SUFFIX}: {path} {error}")
    if problems:
        raise BadEnvironment(*problems)
    return found


def secret_files(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """The paths of the files that hold secrets, by the name of the secret."""
    return {name: path for name in secrets if (path := stripped(environ.get(name + SUFFIX, "")))}


def add_missing(to: MutableMapping[str, str], values: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Set the variables that are unset or empty in `to`. A secret and its file are one setting: either sets it."""
    pairs = _pairs(secrets)
    there = {name for name, value in to.items() if value}
    there |= {pairs[name] for name in there & pairs.keys()}
    to.update({name: value for name, value in values.items() if name not in there})


def replace(to: MutableMapping[str, str], values: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Set all variables. A secret and its file are one setting: what is set of either replaces both."""
    pairs = _pairs(secrets)
    for name in values.keys() & pairs.keys():
        to.pop(pairs[name], None)
    to.update(values)


def named_by_file(problem: str, files: Mapping[str, str]) -> str:
    """A problem with a setting's value, with the name of its file if it is from one."""
    name, colon, what = problem.partition(": ")
    return f"{name}{SUFFIX}: {files[name]}: {what}" if colon and name in files else problem


def _pairs(secrets: Iterable[str]) -> dict[str, str]:
    """The counterpart of each secret and of each name of its file."""
    listed: Collection[str] = tuple(secrets)
    return {name: name + SUFFIX for name in listed} | {name + SUFFIX: name for name in listed}


def _read(path: Path) -> str:
    try:
        # A named pipe without a writer would block; a directory can be opened, but not read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the path is invalid"
        raise ValueError(f"cannot be read: {reason}; correct the path, or the permissions") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("is not a file: name a file that holds the value alone")
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"is larger than {MOST_BYTES} bytes: name a file that holds the value alone")
    try:
        text = stripped(decoded(raw, path))
    except BadEnvironment:
        text = "\ud800"
    if any("\ud800" <= char <= "\udfff" for char in text) or "\0" in text:
        raise ValueError("is not text in UTF-8: save it as that")
    if not text:
        raise ValueError("is empty: write the value into it")
    return text
