"""What a run with several workers says while it goes on: how far it is, how long it may take, and what it is at.

How long a test takes is known from the last run here, else from the table in `tests.order`.
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
"""Where pytest's cache keeps the seconds that each test took."""
_LEAST_SHARE: Final = 0.05
"""Of the expected work; there is no estimate before so much of it is done."""


class Progress:
    """Belongs to the process that hands the tests to workers; says every `EVERY_S` seconds how far they are."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._expected: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._done: set[str] = set()
        self.began = time.monotonic()
        self._over = threading.Event()
        self._saying: threading.Thread | None = None

    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Begin, once it is known which tests there are."""
        if not self._expected:
            self._expected = expected_s(ids, self._recorded())
            self.began = time.monotonic()
            self._saying = threading.Thread(target=self._keep_saying, daemon=True)
            self._saying.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember what is running."""
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up set-up, call and teardown."""
        self._took[report.nodeid] = self._took.get(report.nodeid, 0) + report.duration

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Count it."""
        self._running.pop(nodeid, None)
        self._done.add(nodeid)

    def pytest_sessionfinish(self) -> None:
        """Fall silent, and keep what is to be known next time."""
        self._over.set()
        if self._saying is not None:
            self._saying.join()
        if self._took and (cache := self._cache()) is not None:
            known = self._recorded() | self._took
            cache.set(RECORD, {name: round(took, 3) for name, took in known.items()})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where the time went."""
        folders: Counter[str] = Counter()
        for nodeid, took in self._took.items():
            folders["/".join(nodeid.split("/")[:2])] += round(took)
        said = ", ".join(f"{folder} {took} s" for folder, took in folders.most_common())
        terminalreporter.write_line(f"seconds of tests by folder: {said}")

    def line(self, now: float) -> str:
        """How far it is at this moment."""
        took = now - self.began
        whole = sum(self._expected.values())
        # A copy: tests start and end on another thread while this one says how far they are.
        done = tuple(self._done)
        share = sum(self._expected.get(name, 0) for name in done) / whole if whole else 0.0
        left = f", about {_clock(took * (1 - share) / share)} left" if share >= _LEAST_SHARE else ""
        running = sorted(self._running.items(), key=lambda one: one[1])
        at = ", ".join(f"{_short(name)} ({now - since:.0f} s)" for name, since in running)
        return f"{len(done)} of {len(self._expected)} tests after {_clock(took)}{left}; running: {at or 'none'}"

    def _keep_saying(self) -> None:
        reporter: Any = self._config.pluginmanager.getplugin("terminalreporter")
        while not self._over.wait(EVERY_S):
            if reporter._tw.width_of_current_line:
                reporter.write_line("")
            reporter.write_line(self.line(time.monotonic()))

    def _recorded(self) -> dict[str, float]:
        cache = self._cache()
        recorded: dict[str, float] = cache.get(RECORD, {}) if cache is not None else {}
        return recorded

    def _cache(self) -> pytest.Cache | None:
        # It comes after this plugin, and not at all with `-p no:cacheprovider`.
        return getattr(self._config, "cache", None)


def _short(nodeid: str) -> str:
    """A test without its folder `tests` and its parameters, which may be long."""
    return nodeid.removeprefix("tests/").partition("[")[0]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
