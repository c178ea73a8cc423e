"""Child processes: ready lines, start limits, termination, and the death of the parent."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.patience import eventually, patient

from segue_cli.local.process import ChildFailed, child, ready_with

SLEEPER = "import time; print('{\"port\": 7}', flush=True); time.sleep(60)"


async def test_it_reports_the_ready_line_and_ends_on_sigterm() -> None:
    lines: list[str] = []
    argv = [sys.executable, "-c", f"print('hello', flush=True); print('[1]'); {SLEEPER}"]
    async with child(argv, name="sleeper", on_line=lines.append, ready=ready_with("port")) as process:
        assert process.ready == {"port": 7}
        assert running(process.pid)
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    assert process.returncode == -signal.SIGTERM
    assert lines == ["hello", "[1]", '{"port": 7}']


async def test_a_child_that_ends_early_is_named_with_its_last_output() -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no database')"]
    with pytest.raises(ChildFailed, match=r"(?s)teller ended with 1 .*no database"):
        async with child(argv, name="teller", ready=ready_with("port")):
            pytest.fail("it was never ready")


async def test_a_child_that_is_not_ready_in_time_is_ended() -> None:
    argv = ["/bin/sh", "-c", "echo $$; exec sleep 600"]
    lines: list[str] = []
    limit = patient(0.5)
    with pytest.raises(ChildFailed, match=f"not ready within {limit:g} s"):
        async with child(argv, name="mute", on_line=lines.append, ready=ready_with("port"), ready_within_s=limit):
            pytest.fail("it was never ready")
    assert not running(int(lines[0]))


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    argv = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"]
    async with child(argv, name="ignoring", ready=ready_with("port")) as process:
        assert await process.stop(grace_s=0.2) == -signal.SIGKILL


async def test_a_line_without_end_does_not_stop_the_reading() -> None:
    lines: list[str] = []
    argv = [sys.executable, "-c", "import sys; sys.stdout.write('x' * 3_000_000 + '\\nlast')"]
    async with child(argv, name="talker", on_line=lines.append) as process:
        assert await process.wait() == 0
    assert sum(map(len, lines[:-1])) == 3_000_000
    assert lines[-1] == "last"


async def test_a_child_is_read_on_when_a_line_cannot_be_taken() -> None:
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        raise OSError(f"{line}: no space")

    argv = [sys.executable, "-c", "for n in range(100_000): print(n, 'more than a pipe holds', flush=True)"]
    with pytest.raises(OSError, match=r"^0 more than a pipe holds: no space"):
        async with child(argv, name="talker", on_line=take) as process:
            assert await asyncio.wait_for(process.wait(), patient(60)) == 0
    assert len(lines) == 100_000


async def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    parent = f"""
import asyncio, json, sys
from segue_cli.local.process import child, ready_with
async def main():
    async with child([sys.executable, "-c", {SLEEPER!r}], name="sleeper", ready=ready_with("port")) as inner:
        print(json.dumps({{"inner": inner.pid}}), flush=True)
        await inner.wait()
asyncio.run(main())
"""
    async with child([sys.executable, "-c", parent], name="parent", ready=ready_with("inner")) as process:
        inner = int(process.ready["inner"])
        assert running(inner)
        await process.stop(signal.SIGKILL)

    async def ended() -> bool:
        return not running(inner)

    await eventually(ended)


def test_ready_with_ignores_all_other_lines() -> None:
    parse = ready_with("port")
    assert [parse(line) for line in ("", "{", "[]", "null", '{"host": 1}')] == [None] * 5
    assert parse(json.dumps({"port": 0})) == {"port": 0}


def running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
