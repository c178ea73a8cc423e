"""The reader of env files: `.env` in the working directory, and files named on the command line."""

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
    # UTF-32 first: its little-endian mark starts with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class BadEnvironment(Exception):
    """The environment or an env file is invalid; the message is one line that names each setting or file at fault."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The content of an env file."""

    values: dict[str, str] = field(default_factory=dict)
    """Values by name; a name with an empty value counts as unset and is omitted."""
    notes: tuple[str, ...] = ()
    """Messages about the lines that are ignored."""


def read_env_file(path: Path) -> EnvFile:
    """Read an env file in UTF-8, UTF-16 or UTF-32; a missing file counts as empty. Raises BadEnvironment."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return EnvFile()
    except IsADirectoryError:
        if (path / "pyvenv.cfg").is_file():  # A virtual environment with the same name.
            return EnvFile()
        raise BadEnvironment(f"{path} is a directory: it must be a file, or must not exist") from None
    except OSError as error:
        raise BadEnvironment(
            f"{path} cannot be read: {error.strerror}; correct its permissions, or remove it"
        ) from None
    text = decoded(raw, path)
    # It would print a warning for each invalid line, and these are in the notes.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    found = {stripped(name): value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value}
    for name, value in found.items():
        _require_text(path, name, value)
    broken = [
        str(each.original.line) for each in parse_stream(io.StringIO(text)) if each.error or _is_invalid_name(each.key)
    ]
    notes = (f"{path}: line {', '.join(broken)} is not of the form NAME=value, and is ignored",) if broken else ()
    return EnvFile(found, notes)


def _is_invalid_name(name: str | None) -> bool:
    """Whether it is no valid name of a variable, such as PowerShell's $env:NAME, or NAME: value."""
    return name is not None and not _NAME.fullmatch(stripped(name))


def decoded(raw: bytes, path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32; invalid UTF-8 becomes surrogates. Raises BadEnvironment."""
    encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), None) or _without_bom(raw)
    try:
        # Invalid UTF-8 is an error in a value only, not in a comment.
        return raw.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError:
        raise BadEnvironment(f"{path} starts as {encoding.upper()}, but is not valid in it: save it as UTF-8") from None


def _without_bom(raw: bytes) -> str:
    """UTF-16 if one byte of the first character is zero, as in every ASCII character; otherwise UTF-8."""
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
