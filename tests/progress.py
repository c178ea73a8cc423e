"""Progress of a run with several workers: tests done, time left, and the tests that run.

The expected seconds of a test come from the last run on this machine, else from the table in `tests.order`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import pytest
from tests.order import expected_s

EVERY_S: Final = 15.0
RECORD: Final = "segue/seconds"
"""The key of pytest's cache for the seconds that each test took."""
_LEAST_SHARE: Final = 0.05
"""The share of the expected seconds that has to be done before an estimate is printed."""


class Progress:
    """A plugin for the controller of the workers: prints a line about progress every `EVERY_S` seconds."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._expected: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._done: set[str] = set()
        self.began = time.monotonic()
        self._over = threading.Event()
        self._printing: threading.Thread | None = None

    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Start to print, once the tests are collected."""
        if not self._expected:
            self._expected = expected_s(ids, self._recorded())
            self.began = time.monotonic()
            self._printing = threading.Thread(target=self._keep_printing, daemon=True)
            self._printing.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record the start of a test."""
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of set-up, call and teardown."""
        self._took[report.nodeid] = self._took.get(report.nodeid, 0) + report.duration

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Record the end of a test."""
        self._running.pop(nodeid, None)
        self._done.add(nodeid)

    def pytest_sessionfinish(self) -> None:
        """Stop printing, and record the seconds for the next run."""
        self._over.set()
        if self._printing is not None:
            self._printing.join()
        if self._took and (cache := self._cache()) is not None:
            seconds = self._recorded() | self._took
            cache.set(RECORD, {name: round(took, 3) for name, took in seconds.items()})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the seconds by folder."""
        folders: Counter[str] = Counter()
        for nodeid, took in self._took.items():
            folders["/".join(nodeid.split("/")[:2])] += round(took)
        listed = ", ".join(f"{folder} {took} s" for folder, took in folders.most_common())
        terminalreporter.write_line(f"seconds of tests by folder: {listed}")

    def line(self, now: float) -> str:
        """The line about progress at the monotonic time `now`."""
        took = now - self.began
        whole = sum(self._expected.values())
        # A copy: tests end on another thread meanwhile.
        done = tuple(self._done)
        share = sum(self._expected.get(name, 0) for name in done) / whole if whole else 0.0
        left = f", about {_clock(took * (1 - share) / share)} left" if share >= _LEAST_SHARE else ""
        running = sorted(self._running.items(), key=lambda one: one[1])
        at = ", ".join(f"{_short(name)} ({now - since:.0f} s)" for name, since in running)
        return f"{len(done)} of {len(self._expected)} tests after {_clock(took)}{left}; running: {at or 'none'}"

    def _keep_printing(self) -> None:
        reporter: Any = self._config.pluginmanager.getplugin("terminalreporter")
        while not self._over.wait(EVERY_S):
            if self._config.get_terminal_writer().width_of_current_line:
                reporter.write_line("")
            reporter.write_line(self.line(time.monotonic()))

    def _recorded(self) -> dict[str, float]:
        cache = self._cache()
        recorded: dict[str, float] = cache.get(RECORD, {}) if cache is not None else {}
        return recorded

    def _cache(self) -> pytest.Cache | None:
        # Registered after this plugin, and missing with `-p no:cacheprovider`.
        return getattr(self._config, "cache", None)


def _short(nodeid: str) -> str:
    """The id of a test without `tests/` and its parameters, which may be long."""
    return nodeid.removeprefix("tests/").partition("[")[0]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
