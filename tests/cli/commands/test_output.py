"""`--out`: its place is checked before a job is paid for, and what fails later names the job and its file."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

from segue_cli.commands.output_place import require_file, require_folder

JOB = "c1b0c5a4-8a3e-5f51-9a5d-0d7a6f1d2f3e"
FILE = f"/api/jobs/{JOB}/artifacts/audio.wav"
DONE = {
    "id": JOB,
    "status": "succeeded",
    "provider": "fal",
    "queue_position": None,
    "attempts": [],
    "artifacts": [{"name": "audio.wav", "url": FILE}],
}
CONTENT = b"RIFF" * 1000


class Api(ThreadingHTTPServer):
    """Every job succeeds at once; `before_end` is called when half of its file has been sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts = 0
        self.status = 200
        self.before_end: Callable[[], object] = bool

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.server.posts += 1
        self._answer(202, json.dumps({"job_id": JOB}).encode())

    def do_GET(self) -> None:
        if self.path == FILE:
            self._answer(self.server.status, CONTENT)
        else:
            self._answer(200, json.dumps(DONE).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        if body is CONTENT:
            self.server.before_end()
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def test_the_file_goes_to_a_folder_that_is_made_for_it(shell: Any, api: Api) -> None:
    done = shell.run("submit", "Rain", "--out", "new/folder/pad.wav", "--api", api.address)
    assert done.returncode == 0, done.stdout
    folder = shell.folder / "new" / "folder"
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"pad.wav": CONTENT}


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("folder", "folder is a folder: name a file in it"),
        ("file/pad.wav", "file is no folder"),
        ("file/deeper/pad.wav", "file is no folder"),
        ("/proc/pad.wav", "/proc cannot be written to: No such file or directory"),
        ("/proc/deeper/pad.wav", "/proc cannot be written to: No such file or directory"),
        ("pipe", "pipe is no regular file"),
        ("x" * 255, "cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_sent(
    shell: Any, api: Api, out: str, why: str
) -> None:
    (shell.folder / "folder").mkdir()
    (shell.folder / "file").touch()
    os.mkfifo(shell.folder / "pipe")
    done = shell.run("submit", "Rain", "--out", out, "--api", api.address)
    assert done.returncode == 2
    assert "--out" in done.stdout
    assert why in done.stdout
    assert api.posts == 0
    assert sorted(each.name for each in shell.folder.iterdir()) == ["file", "folder", "pipe"]


def test_a_current_folder_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    with pytest.raises(typer.BadParameter, match="cannot be written to"):
        require_folder(Path(), "--wait")


def test_a_file_that_is_there_may_be_written_again(tmp_path: Path) -> None:
    (tmp_path / "pad.wav").touch()
    require_file(tmp_path / "pad.wav", "--out")
    assert [each.name for each in tmp_path.iterdir()] == ["pad.wav"]


def test_a_file_that_cannot_be_written_by_then_is_told_with_its_job_and_its_url(shell: Any, api: Api) -> None:
    out = shell.folder / "pad.wav"
    api.before_end = out.mkdir
    done = shell.run("submit", "Rain", "--out", str(out), "--api", api.address)
    assert done.returncode == 1
    assert f"{out} cannot be written: Is a directory." in done.stdout
    assert f"Job {JOB} has succeeded, and its file is stored:  curl -fo FILE {api.address}{FILE}" in done.stdout
    assert "LOG_LEVEL" not in done.stdout
    assert [each.name for each in shell.folder.iterdir()] == ["pad.wav"]


def test_a_file_that_the_api_refuses_leaves_nothing_behind(shell: Any, api: Api) -> None:
    api.status = 503
    done = shell.run("submit", "Rain", "--out", "pad.wav", "--api", api.address)
    assert done.returncode == 1
    assert list(shell.folder.iterdir()) == []


def test_ctrl_c_during_the_download_leaves_nothing_behind_and_names_the_file(shell: Any, api: Api, until: Any) -> None:
    stopped = threading.Event()
    api.before_end = stopped.wait
    part = shell.folder / ".pad.wav.part"
    command = shell.start("submit", "Rain", "--out", "pad.wav", "--api", api.address)
    until(part.exists, 60, command.printed)
    code = command.stop(signal.SIGINT)
    stopped.set()
    assert code == 130
    assert f"Job {JOB} has succeeded, and its file is stored:  curl -fo FILE {api.address}{FILE}" in command.printed()
    assert [each.name for each in shell.folder.iterdir()] == [command.output.name]


@pytest.mark.parametrize("out", ["file", "file/deeper", "/proc/demo"])
def test_the_demo_refuses_a_place_that_cannot_be_written_before_it_starts(shell: Any, out: str) -> None:
    (shell.folder / "file").touch()
    done = shell.run("demo", "--out", out)
    assert done.returncode == 2
    assert "--out" in done.stdout
    assert "Starting" not in done.stdout
