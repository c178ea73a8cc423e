"""Warnings that outsiders can cause are logged once a minute for each kind, with their number; others always."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from chassis.observability.log_events import DeliveryEvent, HttpEvent
from chassis.observability.log_limits import OutsideWarnings, Tally
from chassis.observability.logs import configure_logs, get_logger
from gateway.log_events import GatewayEvent


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines:
    """The log lines written since the last call."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.written = clock, io.StringIO()

    def __call__(self) -> list[dict[str, Any]]:
        written = [json.loads(line) for line in self.written.getvalue().splitlines()]
        self.written.seek(0)
        self.written.truncate()
        return written


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    made = Lines(Clock())
    monkeypatch.setattr(sys, "stdout", made.written)
    configure_logs("test", "INFO")
    [handler] = root.handlers
    [limit] = handler.filters
    assert isinstance(limit, OutsideWarnings)
    monkeypatch.setattr(limit, "_clock", made.clock)
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_a_warning_that_outsiders_cause_is_logged_once_a_minute_with_the_number(lines: Lines) -> None:
    log = get_logger("gateway.api.callbacks")
    for n in range(1000):
        log.warning(GatewayEvent.CALLBACK_REJECTED, reason="bad signature", attempt_id=str(n))
    [first] = lines()
    assert first["attempt_id"] == "0"
    assert "suppressed" not in first
    lines.clock.now += 61
    log.warning(GatewayEvent.CALLBACK_REJECTED, reason="bad signature", attempt_id="1000")
    log.warning(GatewayEvent.CALLBACK_REJECTED, reason="bad signature", attempt_id="1001")
    [second] = lines()
    assert (second["attempt_id"], second["suppressed"]) == ("1000", 999)


def test_each_kind_is_logged(lines: Lines) -> None:
    log = get_logger("gateway")
    for _ in range(3):
        log.warning(GatewayEvent.CLOCK_DIFFERS, reason="a")
        log.warning(GatewayEvent.CLOCK_DIFFERS, reason="b")
        log.warning(GatewayEvent.DATABASE_CLOCK_UNKNOWN)
        log.error(GatewayEvent.CLOCK_DIFFERS, reason="a")
        for raised in (ValueError("1"), OSError("2")):
            log.error(GatewayEvent.REQUEST_FAILED, exc_info=raised)
    assert len(lines()) == 6


@pytest.mark.parametrize("logger", ["orchestrator", "chassis.delivery.consumer", "gatewayish"])
def test_other_loggers_are_not_limited(lines: Lines, logger: str) -> None:
    for _ in range(3):
        get_logger(logger).warning(DeliveryEvent.OFFSETS_NOT_COMMITTED)
    assert len(lines()) == 3


def test_records_below_warning_are_not_limited(lines: Lines) -> None:
    for _ in range(3):
        get_logger("gateway.api.callbacks").info(GatewayEvent.CALLBACK_ACCEPTED)
    assert len(lines()) == 3


def test_records_of_libraries_are_limited_by_their_first_line(lines: Lines) -> None:
    loop = asyncio.new_event_loop()
    try:
        for n in range(500):
            loop.call_exception_handler(
                {"message": "socket.accept() out of system resource", "exception": OSError(24, "n"), "socket": n}
            )
    finally:
        loop.close()
    for _ in range(500):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert len(lines()) == 2
    lines.clock.now += 61
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    [again] = lines()
    assert again["suppressed"] == 499


def test_records_of_segue_and_of_libraries_are_limited_together(lines: Lines) -> None:
    own, library, text = get_logger("gateway"), logging.getLogger("gateway"), GatewayEvent.DATABASE_CLOCK_UNKNOWN
    own.warning(text)
    library.warning(text.value)
    own.warning(text)
    assert [line["code"] for line in lines()] == ["database_clock_unknown"]
    lines.clock.now += 61
    library.warning(text.value)
    own.warning(text)
    assert [line["suppressed"] for line in lines()] == [2]


def test_what_kafka_s_client_repeats_while_a_broker_is_away_is_one_record_a_minute(lines: Lines) -> None:
    client = logging.getLogger("aiokafka")
    for _ in range(100):
        for node in (1, 2, 3):
            client.error("Unable connect to node with id %s: %s", node, ConnectionRefusedError(111, "refused"))
    assert [line["event"] for line in lines()] == ["Unable connect to node with id 1: [Errno 111] refused"]
    lines.clock.now += 60
    client.error("Unable connect to node with id %s: %s", 2, "refused")
    [again] = lines()
    assert again["suppressed"] == 299


def test_the_number_of_remembered_kinds_is_bounded() -> None:
    limit = OutsideWarnings(Clock())

    def passes(n: int) -> bool:
        return bool(limit.filter(logging.LogRecord("gateway", logging.WARNING, "", 0, f"kind {n}", None, None)))

    assert all(passes(n) for n in range(5000))
    assert not any(passes(n) for n in range(4000, 5000))
    assert passes(3999), "only the last 1000 kinds are kept"


def test_a_tally_logs_each_reason_at_once_and_then_once_a_minute(lines: Lines) -> None:
    tally = Tally(get_logger("chassis.http.server"), HttpEvent.CLIENTS_TURNED_AWAY)
    for n in range(100):
        tally.note("malformed", f"10.0.0.{n}")
    tally.note("too slow", "10.0.0.1")
    tally.report(0)
    tally.note("malformed", "10.0.0.7")
    for now in range(1, 60):
        tally.report(now)
    assert [(line["reason"], line["count"], line["latest_peer"]) for line in lines()] == [
        ("malformed", 100, "10.0.0.99"),
        ("too slow", 1, "10.0.0.1"),
    ]
    tally.report(60)
    tally.report(61)
    assert [(line["reason"], line["count"]) for line in lines()] == [("malformed", 1)]
