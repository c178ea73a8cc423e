"""How tests are assigned to workers, and the progress line of a run with several workers."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests import order, progress
from tests.order import expected_s, slowest_first, unit_of
from tests.patience import eventually
from tests.progress import Progress

ROOT = Path(__file__).parents[2]


def test_files_that_share_a_slow_fixture_go_to_one_worker() -> None:
    assert (
        unit_of("tests/e2e/test_money.py::test_a[x::y]") == unit_of("tests/e2e/test_cancel.py::test_b") == "tests/e2e"
    )
    assert unit_of("tests/e2e/test_traces.py::test_c") == "tests/e2e/test_traces.py"
    assert {unit_of(f"{file}::test_e") for file in order.SECOND_HALF} == {order.SECOND}
    assert unit_of("tests/chassis/http/test_server.py::test_d") == "tests/chassis/http/test_server.py"


def test_the_slowest_unit_comes_first_and_a_file_stays_together() -> None:
    slow = next(unit for unit in order.SECONDS if unit.endswith(".py"))
    ids = ["tests/z/test_many.py::a", f"{slow}::b", "tests/z/test_many.py::c", "tests/z/test_one.py::d", f"{slow}::e"]
    items = [SimpleNamespace(nodeid=nodeid) for nodeid in ids]
    slowest_first(cast("Any", items))
    assert [item.nodeid for item in items] == [ids[1], ids[4], ids[0], ids[2], ids[3]]


def test_each_unit_of_the_tables_exists() -> None:
    units = {*order.SECONDS, *order.TOGETHER, *order.APART, *order.SECOND_HALF} - {order.SECOND}
    assert [unit for unit in units if not (ROOT / unit).exists()] == []


def test_the_expected_time_is_the_recorded_one_or_a_share_of_that_of_the_file() -> None:
    slow, seconds = next((unit, s) for unit, s in order.SECONDS.items() if unit.endswith(".py"))
    ids = [f"{slow}::a", f"{slow}::b", "tests/z/test_new.py::c"]
    assert expected_s(ids, {ids[1]: 7.0}) == {ids[0]: seconds / 2, ids[1]: 7.0, ids[2]: order.OTHERS_S}


class Host:
    """The parts of pytest that `Progress` uses: the cache and the terminal."""

    def __init__(self, **recorded: float) -> None:
        self.cache, self.pluginmanager = self, self
        self.kept: dict[str, Any] = {progress.RECORD: recorded}
        self.lines: list[str] = []

    def get(self, name: str, default: Any) -> Any:
        return self.kept.get(name, default)

    def set(self, name: str, value: Any) -> None:
        self.kept[name] = value

    def get_terminal_writer(self) -> Any:
        return SimpleNamespace(width_of_current_line=3)

    def getplugin(self, _name: str) -> Any:
        return self

    def write_line(self, line: str) -> None:
        self.lines.append(line)


IDS = [f"tests/z/test_one.py::test_{name}" for name in ("a[\n]", "b", "c")]


def test_the_line_has_the_progress_and_the_running_tests() -> None:
    reporter = Progress(cast("Any", Host(**{IDS[0]: 20, IDS[1]: 20, IDS[2]: 40})))
    reporter.pytest_xdist_node_collection_finished(IDS)
    reporter.pytest_runtest_logstart(IDS[0])
    at_first = reporter.line(reporter.began + 5)
    assert re.fullmatch(r"0 of 3 tests after 0:05; running: z/test_one\.py::test_a \(\d s\)", at_first)
    reporter.pytest_runtest_logfinish(IDS[0])
    assert reporter.line(reporter.began + 65) == "1 of 3 tests after 1:05, about 3:15 left; running: none"
    reporter.pytest_sessionfinish()


async def test_the_line_is_written_repeatedly_on_lines_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    host = Host()
    reporter = Progress(cast("Any", host))
    reporter.pytest_xdist_node_collection_finished(IDS)

    async def twice() -> bool:
        return len(host.lines) >= 4

    await eventually(twice)
    assert host.lines[0] == host.lines[2] == ""
    assert host.lines[1].startswith("0 of 3 tests after 0:0")
    reporter.pytest_sessionfinish()


def test_the_seconds_of_each_test_are_recorded_and_summed_by_folder() -> None:
    host = Host(**{IDS[0]: 1, IDS[1]: 2})
    reporter = Progress(cast("Any", host))
    for duration in (0.5, 3.0, 0.25):
        reporter.pytest_runtest_logreport(cast("Any", SimpleNamespace(nodeid=IDS[1], duration=duration)))
    reporter.pytest_sessionfinish()
    reporter.pytest_terminal_summary(host)
    assert host.kept == {progress.RECORD: {IDS[0]: 1, IDS[1]: 3.75}}
    assert host.lines == ["seconds of tests by folder: tests/z 4 s"]


def test_a_run_without_the_cache_plugin_has_no_record_and_does_not_fail() -> None:
    host = Host()
    del host.cache
    reporter = Progress(cast("Any", host))
    reporter.pytest_xdist_node_collection_finished(IDS)
    reporter.pytest_runtest_logreport(cast("Any", SimpleNamespace(nodeid=IDS[1], duration=1)))
    reporter.pytest_sessionfinish()
