"""Env files as various tools write them: read, or refused in one line, by services and by the command line."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from tests.users import as_nobody

from chassis.settings.env_file import BadEnvironment, read_env_file
from chassis.settings.service import WrongSettings, read_into_environment
from segue_cli.stack.environment import read_env

TEXT = "# a clé\nexport SEGUE_A='x y'\nSEGUE_B=\"1\\n2\"\n\nSEGUE_C=plain # note\nSEGUE_D=\nSEGUE_E=schlüssel\n"
VALUES = {"SEGUE_A": "x y", "SEGUE_B": "1\n2", "SEGUE_C": "plain", "SEGUE_E": "schlüssel"}


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF16_LE + TEXT.replace("\n", "\r\n").encode("utf-16-le"),
        TEXT.replace("\n", "\r").encode(),
    ],
    ids=[
        "utf-8",
        "bom",
        "utf-16-le",
        "utf-16-be",
        "le without bom",
        "be without bom",
        "utf-32",
        "crlf",
        "powershell",
        "cr",
    ],
)
def test_a_file_in_any_common_encoding_is_read(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / ".env").write_bytes(raw)
    assert read_env_file(tmp_path / ".env").values == VALUES
    assert read_env(tmp_path / ".env") == VALUES


def test_other_encodings_matter_in_values_only(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes("# für fal\nSEGUE_A=1\n".encode("latin-1"))
    assert read_env_file(path).values == {"SEGUE_A": "1"}
    path.write_bytes("SEGUE_A=für fal\n".encode("latin-1"))
    refused(path, f"{path}: SEGUE_A is not in UTF-8: save the file as UTF-8, and it can be read")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        # The result of `>>` in PowerShell on an existing file.
        (b"SEGUE_A=1\n" + "SEGUE_B=2\n".encode("utf-16-le"), "has a NULL character in it: save the file as UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"SEGUE_A=1", "starts as UTF-16, but is not valid in it: save it as UTF-8"),
        (b"\x7fELF\x00\x00SEGUE=\x00\x01", "has a NULL character in it"),
    ],
    ids=["appended", "cut off", "a program"],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, raw: bytes, told: str) -> None:
    (tmp_path / ".env").write_bytes(raw)
    refused(tmp_path / ".env", told)


def test_a_directory_is_refused_unless_it_is_a_virtual_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    refused(tmp_path / ".env", "is a directory: it must be a file, or must not exist")
    (tmp_path / ".env" / "pyvenv.cfg").touch()
    assert read_env_file(tmp_path / ".env").values == {}


def test_a_file_that_another_user_owns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("SEGUE_A=1")
    path.chmod(0)
    with as_nobody(tmp_path):
        refused(path, "cannot be read: Permission denied; correct its permissions, or remove it")


def test_without_a_file_there_are_no_settings(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / ".env").values == {}


def test_lines_without_a_setting_are_noted_and_invisible_characters_in_names_ignored(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text('\u200bSEGUE_A=1\n$env:SEGUE_B = "2"\nSEGUE_C=\'3\n')
    found = read_env_file(path)
    assert found.values["SEGUE_A"] == "1"
    assert found.notes == (f"{path}: line 2, 3 is not of the form NAME=value, and is ignored",)


def test_the_environment_wins_unless_it_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SEGUE_A=file\nSEGUE_B=file\n")
    monkeypatch.setenv("SEGUE_A", "around")
    monkeypatch.setenv("SEGUE_B", "")
    read_into_environment(tmp_path / ".env")
    assert (os.environ["SEGUE_A"], os.environ["SEGUE_B"]) == ("around", "file")
    read_into_environment(tmp_path / ".env", override=True)
    assert os.environ["SEGUE_A"] == "file"


def refused(path: Path, told: str) -> None:
    with pytest.raises(BadEnvironment) as here:
        read_env_file(path)
    assert told in str(here.value)
    assert "\n" not in str(here.value)
    with pytest.raises(WrongSettings) as there:
        read_into_environment(path)
    assert str(there.value) == str(here.value)
