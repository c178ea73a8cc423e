"""Logs as JSON and for people: one line an event, whatever is in it, and colours on a terminal only."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import uvloop
from tests.patience import patient

from chassis.observability import log_stream
from chassis.observability.log_events import DeliveryEvent, HttpEvent
from chassis.observability.logs import configure_logs, get_logger
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
def test_records_of_segue_and_of_libraries_have_one_form(
    configured: Callable[[LogFormat], None], capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    configured(form)
    named = {"host": "a\nb\x1b[2J\u202ec\td\x7f", "port": 1, "connections": None}
    with structlog.contextvars.bound_contextvars(job_id="j"):
        get_logger("toy.lines").info(HttpEvent.HTTP_SERVING, **named)
        logging.getLogger("toy.lines").info(HttpEvent.HTTP_SERVING.value, extra={**named, "code": "http_serving"})
    written = capsys.readouterr().out
    own, library = written.splitlines()
    assert fields(own, form) == fields(library, form)
    assert not set(written) & {"\x1b", "\u202e", "\t", "\x7f"}


def test_a_logger_made_before_logs_are_configured_follows_what_they_are_configured_to(
    configured: Callable[[LogFormat], None], capsys: pytest.CaptureFixture[str]
) -> None:
    logger = get_logger("toy.early")
    bound = logger.bind(group="g")
    logger.debug(DeliveryEvent.CONSUMING_RESUMED, group="before")
    assert "group='before'" in capsys.readouterr().out
    configured("json")
    logger.debug(DeliveryEvent.CONSUMING_RESUMED, group="below the level")
    logger.info(DeliveryEvent.CONSUMING_RESUMED, group="after")
    logger.bind(group="bound").info(DeliveryEvent.CONSUMING_RESUMED)
    bound.info(DeliveryEvent.CONSUMING_RESUMED)
    *lines, plain = capsys.readouterr().out.splitlines()
    assert [(line["group"], line["logger"]) for line in map(json.loads, lines)] == [
        ("after", "toy.early"),
        ("bound", "toy.early"),
    ]
    assert "group='g'" in plain, "what is bound before has the configuration of that time"


def test_a_record_of_an_exception_has_its_traceback(
    configured: Callable[[LogFormat], None], capsys: pytest.CaptureFixture[str]
) -> None:
    configured("json")
    try:
        int("lost")
    except ValueError:
        get_logger("toy").exception(DeliveryEvent.DELIVERY_FAILED, group="g")
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["code"]) == ("error", "delivery_failed")
    assert line["exception"].startswith("Traceback (most recent call last)")
    assert line["exception"].endswith("'lost'")


class Writes(io.StringIO):
    """A stream that keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[list[int]] = []
        """The ports of the records of each write."""
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.ports.append([json.loads(line).get("port") for line in text.splitlines()])
        self.written.set()
        return super().write(text)


@pytest.fixture
def writes(configured: Callable[[LogFormat], None], monkeypatch: pytest.MonkeyPatch) -> Writes:
    stream = Writes()
    monkeypatch.setattr(sys, "stdout", stream)
    configured("json")
    return stream


def log_port(port: int) -> None:
    get_logger("toy").info(HttpEvent.HTTP_SERVING, host="h", port=port, connections=2)


def test_a_line_is_written_at_once_outside_of_an_event_loop(writes: Writes) -> None:
    log_port(1)
    log_port(2)
    assert writes.ports == [[1], [2]]


async def test_the_lines_of_an_event_loop_are_written_together(writes: Writes) -> None:
    log_port(1)
    log_port(2)
    assert writes.ports == []
    for ports in ([[1, 2]], [[1, 2], [3]]):
        await asyncio.wait_for(writes.written.wait(), patient(10))
        writes.written.clear()
        assert writes.ports == ports
        log_port(3)


@pytest.mark.parametrize("level", ["error", "critical"])
async def test_an_error_is_written_at_once_after_the_lines_before_it(writes: Writes, level: str) -> None:
    log_port(1)
    getattr(get_logger("toy"), level)(HttpEvent.HTTP_SERVING, host="h", port=2, connections=2)
    assert writes.ports == [[1, 2]]


async def test_a_record_of_a_library_is_written_at_once_after_the_lines_before_it(writes: Writes) -> None:
    log_port(1)
    logging.getLogger("library").warning("plain")
    assert writes.ports == [[1, None]]


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_line_of_a_busy_loop_is_written(
    writes: Writes, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def busy() -> None:
        for port in range(1, 40):
            writes.written.clear()
            log_port(port)
            # It turns without a pause. uvloop's timers may end a millisecond early then.
            async with asyncio.timeout(patient(10)):
                while not writes.written.is_set():  # noqa: ASYNC110 - the loop has to be busy
                    await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(busy())
    assert writes.ports == [[port] for port in range(1, 40)]


async def test_a_loop_that_is_late_writes_at_once(writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(log_stream, "monotonic", lambda: now)
    log_port(1)
    now += 1
    log_port(2)
    assert writes.ports == [[1, 2]]


@pytest.mark.usefixtures("writes")
def test_a_library_and_segue_share_the_lock_of_the_stream() -> None:
    handlers = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    assert [handler.lock is handler.stream.lock for handler in handlers] == [True]


def test_lines_of_a_loop_that_has_ended_are_written_by_the_next_loop(writes: Writes) -> None:
    async def logs(port: int, written: bool) -> None:
        log_port(port)
        if written:
            await asyncio.wait_for(writes.written.wait(), patient(10))

    asyncio.run(logs(1, written=False))
    assert writes.ports == []
    asyncio.run(logs(2, written=True))
    assert writes.ports == [[1, 2]]


def test_what_is_logged_last_is_written_before_the_process_ends(tmp_path: Path) -> None:
    program = """
import asyncio
from chassis.observability.log_events import RuntimeEvent
from chassis.observability.logs import configure_logs, get_logger
configure_logs("toy", "INFO")
async def main():
    get_logger("chassis").info(RuntimeEvent.STOPPING, drain_s=2.5)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["drain_s"] == 2.5


def test_a_log_call_fails_nothing_when_its_stream_is_closed(
    configured: Callable[[LogFormat], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    configured("json")
    logger = get_logger("toy.lines")
    logger.info(HttpEvent.HTTP_SERVING, host="h", port=1, connections=2)
    assert json.loads(stream.getvalue())["port"] == 1
    stream.close()
    logger.info(HttpEvent.HTTP_SERVING, host="h", port=1, connections=2)


class Unprintable:
    def __repr__(self) -> str:
        raise LookupError("no text")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_record_that_cannot_be_rendered_says_so(
    configured: Callable[[LogFormat], None], capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    configured(form)
    get_logger("toy").warning(HttpEvent.HTTP_SERVING, host=Unprintable(), port=1, connections=2)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert all(text in line for text in ("serving http", "http_serving", "warning", "LookupError"))
