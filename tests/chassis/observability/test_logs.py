"""Logs as JSON and for people: one line an event, whatever is in it, and colours on a terminal only."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from tests.patience import patient

from chassis.observability.log_events import HttpEvent
from chassis.observability.logs import configure_logs, get_line_logger, get_logger
from chassis.settings.types import LogFormat

PROGRAM = """
import logging, sys
from chassis.observability.log_events import RuntimeEvent
from chassis.observability.logs import configure_logs, get_logger
configure_logs("toy", "INFO", sys.argv[1])
get_logger("chassis").warning(RuntimeEvent.SETTING_IGNORED, note="a\\nb\\x1b[2J\\u202ec\\td", ids=["\\x1b[2J"])
logging.getLogger("library").error("plain %s", "te\\x9bxt\\nmore")
try:
    raise ValueError("hostile\\x1b[2J\\nend")
except ValueError as error:
    get_logger("chassis").error(RuntimeEvent.TRACEBACK, exc_info=error)
get_logger("chassis").info(RuntimeEvent.STOPPING, drain_s=2.5)
"""


async def printed(form: str, folder: Path, *, terminal: bool = False) -> str:
    """What the program writes to stdout, which is a pipe or a terminal."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, form), cwd=folder, stdout=theirs, env={**os.environ, "TERM": "xterm-256color"}
    )
    try:
        assert await asyncio.wait_for(process.wait(), patient(60)) == 0
    finally:
        os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65_536):
            written += part
    except OSError:  # The end of a terminal.
        pass
    finally:
        os.close(ours)
    return written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("form", ["console", "auto"])
@pytest.mark.parametrize("terminal", [True, False])
async def test_an_event_is_one_line_without_controls(form: str, terminal: bool, tmp_path: Path) -> None:
    text = await printed(form, tmp_path, terminal=terminal)
    lines = text.splitlines()
    assert len(lines) == 4
    assert all(word in line for word, line in zip(("setting", "plain te", "traceback", "2.5"), lines, strict=True))
    assert "\x1b[2J" not in text
    assert not set(text) & {"\u202e", "\x9b", "\t"}
    assert "\\u001b[2J" in lines[0]
    assert "ValueError: hostile" in lines[2]
    assert "u001b[2J" in lines[2]
    assert ("\x1b[" in text) is terminal
    if form == "auto" and not terminal:
        assert [json.loads(line)["service"] for line in lines] == ["toy"] * 4
    else:
        assert [line.startswith("{") for line in lines] == [False] * 4
        assert all(level in line for level, line in zip(("warning", "error", "error", "info"), lines, strict=True))


async def test_json_is_json_on_a_terminal_too(tmp_path: Path) -> None:
    lines = (await printed("json", tmp_path, terminal=True)).splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["warning", "error", "error", "info"]


@pytest.fixture
def configured() -> Iterator[Callable[[LogFormat], None]]:
    """Configures the logs of this process, for one test."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield lambda form: configure_logs("toy", "INFO", form)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def fields(line: str, form: LogFormat) -> object:
    """What a line says, without the time."""
    if form == "json":
        return {name: value for name, value in json.loads(line).items() if name != "timestamp"}
    head, *named = re.split(r" (?=\w+=)", line.partition(" ")[2])
    return head, sorted(named)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logger_of_lines_writes_the_same_records(
    configured: Callable[[LogFormat], None], capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    configured(form)
    for logger in (get_logger("toy.lines"), get_line_logger("toy.lines")):
        logger.info(HttpEvent.HTTP_SERVING, host="a\nb\x1b[2J\u202ec\td\x7f", port=1, connections=None)
    written = capsys.readouterr().out
    usual, line = written.splitlines()
    assert fields(line, form) == fields(usual, form)
    assert not set(written) & {"\x1b", "\u202e", "\t", "\x7f"}


def test_a_logger_of_lines_fails_nothing_when_its_stream_is_closed(
    configured: Callable[[LogFormat], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    configured("json")
    logger = get_line_logger("toy.lines")
    logger.info(HttpEvent.HTTP_SERVING, host="h", port=1, connections=2)
    assert json.loads(stream.getvalue())["port"] == 1
    stream.close()
    logger.info(HttpEvent.HTTP_SERVING, host="h", port=1, connections=2)
