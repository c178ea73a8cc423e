"""The one reader of env files: `.env` of the folder, and those that are named on the command line."""

from __future__ import annotations

import codecs
import io
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from chassis.settings.header_values import stripped

_BOMS: Final = (
    # The marks of UTF-32 first: the little-endian one begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class BadEnvironment(Exception):
    """The environment or a file of it lacks what is needed; the message is one line that names each culprit."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What an env file holds."""

    values: dict[str, str] = field(default_factory=dict)
    """Name to value; what is set to nothing is left out, as unset."""
    notes: tuple[str, ...] = ()
    """What in it was passed over, in words."""


def read_env_file(path: Path) -> EnvFile:
    """Read an env file in whatever encoding it says; an empty one where there is none. Raises BadEnvironment."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return EnvFile()
    except IsADirectoryError:
        if (path / "pyvenv.cfg").is_file():  # A virtual environment, which some people call so too.
            return EnvFile()
        raise BadEnvironment(f"{path} is a directory: it has to be a file, or not to be there") from None
    except OSError as error:
        raise BadEnvironment(f"{path} cannot be read: {error.strerror}; mend its permissions, or remove it") from None
    text = _decoded(raw, path)
    # It would warn of lines on stderr, whose number is told here.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    found = {stripped(name): value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value}
    for name, value in found.items():
        _require_text(path, name, value)
    broken = [str(each.original.line) for each in parse_stream(io.StringIO(text)) if each.error or _is_odd(each.key)]
    notes = (f"{path}: line {', '.join(broken)} is not of the form NAME=value, and is passed over",) if broken else ()
    return EnvFile(found, notes)


def _is_odd(name: str | None) -> bool:
    """Whether it is no name that a shell would take, such as PowerShell's $env:NAME, or NAME: value."""
    return name is not None and not _NAME.fullmatch(stripped(name))


def _decoded(raw: bytes, path: Path) -> str:
    encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), None) or _without_bom(raw)
    try:
        # In UTF-8, bytes that are none are looked at only where they matter: within a value, not within a comment.
        return raw.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError:
        raise BadEnvironment(
            f"{path} begins as {encoding.upper()} and does not go on so: save it again, as UTF-8"
        ) from None


def _without_bom(raw: bytes) -> str:
    """UTF-16 where one byte of the first character is zero, as it is of every ASCII character; else UTF-8."""
    match [bool(byte) for byte in raw[:2]]:
        case [True, False]:
            return "utf-16-le"
        case [False, True]:
            return "utf-16-be"
    return "utf-8"


def _require_text(path: Path, name: str, value: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in name + value):
        shown = name.encode("ascii", "replace").decode()
        raise BadEnvironment(f"{path}: {shown} is not in UTF-8: save the file as UTF-8, and it can be read")
    if "\0" in name + value:
        raise BadEnvironment(f"{path}: {name!a} has a NULL character in it: save the file as UTF-8 text")
