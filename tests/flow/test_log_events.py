"""The list of log events is complete: each log call logs an event of the list, and each event is logged."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

import adapter_kit.log_events
import chassis.observability.log_events
import gateway.log_events
import log_sink.log_events
import orchestrator.log_events
from chassis.observability.log_event import LogEvent
from chassis.observability.log_events import DeliveryEvent, HttpEvent
from chassis.observability.logs import configure_logs, get_logger

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("chassis", "adapter-kit", "services/*")
    for path in sorted(ROOT.glob(f"{folder}/src/**/*.py"))
    # These log events that are passed to them; the events are checked where they are passed.
    if path.name not in ("log_event.py", "log_limits.py")
]
LISTS = (
    chassis.observability.log_events,
    adapter_kit.log_events,
    gateway.log_events,
    orchestrator.log_events,
    log_sink.log_events,
)
KINDS = {kind.__name__: kind for kind in LogEvent.__subclasses__() if kind.__module__.endswith(".log_events")}
EVENTS = [event for kind in KINDS.values() for event in kind]
METHODS = {"exception": "error", **{name: name for name in ("debug", "info", "warning", "error", "critical")}}
TALLY = ("warning", frozenset({"reason", "count", "latest_peer"}))
"""The level and the fields of what `chassis.observability.log_limits.Tally` logs."""

Written = tuple[str, frozenset[str]]


@dataclass
class Calls:
    """What one module logs."""

    known: list[tuple[LogEvent, Written]] = field(default_factory=list)
    chosen: list[Written] = field(default_factory=list)
    """Calls whose event is a variable."""
    mentioned: list[LogEvent] = field(default_factory=list)
    """Events outside of log calls: the values that a variable may have."""


def event_of(node: ast.expr) -> LogEvent | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in KINDS:
        return KINDS[node.value.id][node.attr]
    return None


def is_logger(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return text.startswith("get_logger(") or text.rpartition(".")[2] in ("log", "_log")


def bound(tree: ast.Module) -> dict[str, set[str]]:
    """The fields of a module's loggers that are bound to them, by the name of the logger."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(call := node.value, ast.Call):
            continue
        if isinstance(call.func, ast.Attribute) and call.func.attr == "bind" and is_logger(call.func.value):
            found[ast.unparse(node.targets[0])] |= {word.arg or "**" for word in call.keywords}
    return found


def calls(path: Path) -> Calls:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fields, found, firsts = bound(tree), Calls(), set[int]()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "Tally" and is_logger(node.args[0]):
            event, written = event_of(node.args[1]), TALLY
            assert event is not None, f"{path}:{node.lineno}: a Tally of no event of the list"
            firsts.add(id(node.args[1]))
        elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and is_logger(node.func.value):
            given = {word.arg or "**" for word in node.keywords} | fields[ast.unparse(node.func.value)]
            # Added by the processors: the traceback, and the trace of a record that is logged after its span.
            written = METHODS[node.func.attr], frozenset(given - {"exc_info", "trace_id"})
            event = event_of(node.args[0])
            firsts.add(id(node.args[0]))
        else:
            continue
        if event is None:
            found.chosen.append(written)
        else:
            found.known.append((event, written))
    found.mentioned = [
        event
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and id(node) not in firsts and (event := event_of(node)) is not None
    ]
    return found


ALL_CALLS = [(path.relative_to(ROOT).as_posix(), calls(path)) for path in SOURCES]


def writes() -> Iterator[tuple[str, LogEvent, list[Written]]]:
    """Each event with the module that logs it, and the calls that may log it."""
    for name, module in ALL_CALLS:
        yield from ((name, event, [written]) for event, written in module.known)
        yield from ((name, event, module.chosen) for event in module.mentioned)


def test_each_call_has_the_level_and_the_fields_of_its_event() -> None:
    wrong = [
        f"{name}: {event.code} is {event.level} with {sorted(event.fields)}, and is logged as {options}"
        for name, event, options in writes()
        if (event.level, frozenset(event.fields)) not in options
    ]
    assert wrong == []


def test_a_call_with_a_variable_can_only_log_events_of_its_own_module() -> None:
    assert [name for name, module in ALL_CALLS if module.chosen and not module.mentioned] == []


def test_each_event_is_logged_somewhere() -> None:
    assert {event.code for event in EVENTS} - {event.code for _, event, _ in writes()} == set()


@pytest.mark.parametrize("attribute", ["code", "value"])
def test_no_two_events_have_the_same(attribute: str) -> None:
    counted = Counter(getattr(event, attribute) for event in EVENTS)
    assert [each for each, count in counted.items() if count > 1] == []


def test_no_event_is_hidden_behind_another_of_the_same_text() -> None:
    assert [kind.__name__ for kind in KINDS.values() if len(kind) < len(kind.__members__)] == []


def test_each_field_is_explained_once_and_used() -> None:
    explained = Counter(name for module in LISTS for name in module.FIELDS)
    assert {name: count for name, count in explained.items() if count > 1} == {}
    assert explained.keys() == {name for event in EVENTS for name in event.fields}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_logged_outside_of_the_list(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    standard = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in METHODS
        and ast.unparse(node.func.value).startswith("logging")
    ]
    assert standard == []


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    configure_logs("test", "INFO")
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_a_record_carries_the_code_of_its_event_and_its_text(lines: io.StringIO) -> None:
    get_logger("test").warning(DeliveryEvent.OFFSETS_NOT_COMMITTED, error="E")
    get_logger("test").info(HttpEvent.HTTP_SERVING, host="h", port=1, connections=2)
    logging.getLogger("some.library").warning("text of its own")
    first, second, foreign = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["code"], first["level"]) == ("offsets_not_committed", "warning")
    assert first["event"] == DeliveryEvent.OFFSETS_NOT_COMMITTED.value
    assert (second["code"], second["event"], second["port"]) == ("http_serving", "serving http", 1)
    assert (foreign["event"], "code" in foreign) == ("text of its own", False)
