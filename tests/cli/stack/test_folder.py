"""The folder of `segue up`: one at a time, and one line where it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.patience import patient
from tests.users import as_nobody

from segue_cli.stack.environment import without_settings
from segue_cli.stack.folder import FOLDER, AlreadyUp, CannotUse, held


def read_only(folder: Path) -> None:
    folder.chmod(0o555)


def of_another_user(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    (folder / FOLDER).mkdir()


def a_closed_lock(folder: Path) -> None:
    (folder / FOLDER / "up.lock").mkdir(parents=True)
    for path in (folder / FOLDER, folder / FOLDER / "up.lock"):
        os.chown(path, 65534 if os.geteuid() == 0 else -1, -1)


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (read_only, "Permission denied"),
        (of_another_user, "Operation not permitted"),
        (lambda folder: (folder / FOLDER).touch(), "it is no folder"),
        (lambda folder: (folder / FOLDER).symlink_to("nowhere"), "it is no folder"),
        (lambda folder: (folder / FOLDER).symlink_to(FOLDER), "it is no folder"),
        (a_closed_lock, "up.lock: Is a directory"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], None], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    with as_nobody(tmp_path), pytest.raises(CannotUse) as told, held(FOLDER):
        pytest.fail("it was held")
    remedy = "nothing was started: start it in a folder of your own"
    assert str(told.value) == f".segue in {tmp_path} cannot be used ({why}); {remedy}"


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    command = [sys.executable, "-P", "-m", "segue_cli", "up"]
    deleted = f"import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, {command})"
    (tmp_path / "gone").mkdir()
    for argv, folder, words in (
        (["-m", "segue_cli", "up"], tmp_path, f".segue in {tmp_path} cannot be used (it is no folder); nothing"),
        (["-c", deleted], tmp_path / "gone", ".segue in a folder that has been deleted cannot be used (No such file"),
    ):
        done = subprocess.run(
            [sys.executable, *argv],
            cwd=folder,
            env=without_settings(os.environ),
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1), done.stderr
        assert done.stderr.startswith(f"segue: {words}")


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path / FOLDER) as state:
            assert (state.folder / "up.lock").read_text() == str(os.getpid())
            with pytest.raises(AlreadyUp, match=f"as process {os.getpid()}$"), held(tmp_path / FOLDER):
                pytest.fail("it was held twice")
